"""One host: a Debian that boots with systemd and sshd in a systemd-nspawn container, over the golden layer.

Its disk is an overlay in memory, which survives a reboot and a power cut, and is gone when the test bed goes.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from tests.testbed.cgroups import Cgroup
from tests.testbed.names import BRIDGE, PREFIX_LENGTH, USER, Names, TestbedError, address
from tests.testbed.programs import run

_PROPAGATED = Path("/run/systemd/nspawn/propagate")
"""systemd-nspawn leaves an empty folder of each container here when the container ends hard."""
_POWER_OFF_LIMIT_S = 60.0
_POLL_S = 0.05
# Joins the control groups, then runs the container; 133 is what systemd-nspawn ends with when the host reboots.
_JOIN_AND_RUN = """
while [ "$1" != -- ]; do echo $$ >"$1"; shift; done
shift
while "$@"; [ $? -eq 133 ]; do :; done
"""

_started: list[subprocess.Popen[bytes]] = []
"""Launchers that this process started; kept, as Python complains about a child that nobody waits for."""


class Machine:
    """One host of a test bed, whether it runs or not; all that is known about it lies on disk.

    Attributes:
        host: `server` or `pi1` to `pi5`.
        folder: its overlay and what it says on its console.
        cgroup: holds all of its processes.
    """

    def __init__(self, host: str, names: Names) -> None:
        self.host = host
        self.folder = names.folder / "hosts" / host
        self.cgroup = Cgroup(f"{names.namespace}/{host}")
        self._names = names

    @property
    def root(self) -> Path:
        """The host's file system, seen from outside."""
        return self.folder / "root"

    @property
    def console(self) -> Path:
        """What the host said while it booted."""
        return self.folder / "console.log"

    @property
    def _lent_file(self) -> Path:
        return self.folder / "lent"

    @property
    def running(self) -> bool:
        """True while any process of the host lives."""
        return bool(self.cgroup.pids())

    @property
    def leader(self) -> int:
        """Process id of the host's PID 1, as seen from outside; TestbedError when it is not running."""
        for pid in self.cgroup.pids():
            if _parent_is_nspawn(pid):
                return pid
        raise TestbedError(f"{self.host} is not running; end of {self.console}:\n{self.last_words()}")

    def prepare(self, layer: Path, authorized_key: str, lent: Mapping[Path, Path]) -> str:
        """Lay the overlay and write what makes this host differ from the others.

        Args:
            layer: the Debian that it starts from.
            authorized_key: whose owner may log in.
            lent: folders of this machine that the host can read, by where it sees them.

        Returns:
            The public key of its sshd.
        """
        upper, work = self.folder / "upper", self.folder / "work"
        for folder in (upper, work, self.root):
            folder.mkdir(parents=True)
        run(
            *("mount", "-t", "overlay", self._names.machine(self.host)),
            *("-o", f"lowerdir={layer},upperdir={upper},workdir={work}", str(self.root)),
        )
        self._lent_file.write_text("".join(f"--bind-ro={here}:{there}\n" for there, here in lent.items()))
        etc = self.root / "etc"
        (etc / "hostname").write_text(f"{self.host}\n")
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {self.host}\n")
        (etc / "machine-id").write_text("")
        (etc / "systemd" / "network" / "10-host0.network").write_text(
            "[Match]\nName=host0\n"
            f"[Network]\nAddress={address(self.host)}/{PREFIX_LENGTH}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
        )
        wants = etc / "systemd" / "system" / "multi-user.target.wants"
        (wants / "systemd-networkd.service").symlink_to("/lib/systemd/system/systemd-networkd.service")
        self._authorize(authorized_key)
        key = etc / "ssh" / "ssh_host_ed25519_key"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.host, "-f", str(key))
        return key.with_suffix(".pub").read_text().strip()

    def boot(self) -> None:
        """Switch the host on; returns before it has booted."""
        self.cgroup.create()
        nspawn = self._names.on_controller(
            *("systemd-nspawn", "--quiet", "--boot", f"--directory={self.root}"),
            *(f"--machine={self._names.machine(self.host)}", f"--hostname={self.host}"),
            *("--register=no", "--keep-unit", f"--network-bridge={BRIDGE}"),
            *("--resolv-conf=off", "--timezone=off", "--link-journal=no"),
            *self._lent_file.read_text().split(),
        )
        joined = [str(file) for file in self.cgroup.process_files]
        with self.console.open("ab") as console:
            launcher = subprocess.Popen(
                ["/bin/sh", "-c", _JOIN_AND_RUN, "launch", *joined, "--", *nspawn],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,  # Ctrl-C is for us, who then switch the hosts off in order
            )
        _started.append(launcher)

    def power_off(self) -> None:
        """Shut down in good order, and the hard way when that takes too long; a no-op when it is off."""
        self.request_power_off()
        self.wait_until_off()

    def request_power_off(self) -> None:
        """Ask for a shutdown and return; a no-op when the host is off."""
        with suppress(TestbedError, ProcessLookupError):
            os.kill(self.leader, signal.SIGRTMIN + 4)  # what systemd takes as "power off"

    def wait_until_off(self) -> None:
        """Wait for the shutdown; after a while, cut the power."""
        if not _becomes_true(lambda: not self.running, _POWER_OFF_LIMIT_S):
            self._end_hard()
        _reap()

    def reboot(self) -> None:
        """Ask for a reboot and return when the system that ran has ended; the next one boots by itself."""
        before = self.leader
        os.kill(before, signal.SIGRTMIN + 5)  # what systemd takes as "reboot"
        if not _becomes_true(lambda: before not in self.cgroup.pids(), _POWER_OFF_LIMIT_S):
            raise TestbedError(
                f"{self.host} did not shut down for its reboot; end of its console:\n{self.last_words()}"
            )

    def power_cut(self) -> None:
        """End everything at once, as when the plug is pulled; `boot` brings the host back with the disk it had."""
        self._end_hard()
        _reap()

    def inside(self, *command: str) -> list[str]:
        """The command, run with the host's network but this machine's files: for shaping its end of the link."""
        return ["nsenter", f"--net=/proc/{self.leader}/ns/net", *command]

    def remove(self) -> None:
        """Switch it off and take away its control group and mount; a no-op when there is neither."""
        self.power_off()
        self.cgroup.remove()
        if os.path.ismount(self.root):
            run("umount", str(self.root))
        with suppress(FileNotFoundError):
            (_PROPAGATED / self._names.machine(self.host)).rmdir()

    def last_words(self) -> str:
        """The end of the console."""
        said = self.console.read_text(errors="replace") if self.console.exists() else ""
        return "\n".join(said.splitlines()[-15:])

    def _end_hard(self) -> None:
        self.cgroup.kill()
        # Killed, systemd-nspawn leaves its cable to the kernel, which removes it later: a boot may find it in its way.
        cable = self._names.interface(self.host)
        run(*self._names.on_controller("ip", "link", "delete", cable), accepted=(0, 1))  # 1: it is gone

    def _authorize(self, key: str) -> None:
        home = self.root / "home" / USER
        owner = home.stat()
        folder = home / ".ssh"
        folder.mkdir(mode=0o700)
        file = folder / "authorized_keys"
        file.write_text(f"{key}\n")
        for path in (folder, file):
            os.chown(path, owner.st_uid, owner.st_gid)


def _parent_is_nspawn(pid: int) -> bool:
    try:
        # pid (name) state parent ...; a name may hold spaces and parentheses.
        parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        return Path(f"/proc/{parent}/comm").read_text().strip() == "systemd-nspawn"
    except OSError:
        return False


def _becomes_true(condition: Callable[[], bool], limit_s: float) -> bool:
    deadline_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(_POLL_S)
    return True


def _reap() -> None:
    """Collect the exit codes of launchers that have ended."""
    _started[:] = [launcher for launcher in _started if launcher.poll() is None]
