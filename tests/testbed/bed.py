"""The whole test bed: a server and five Pis on a bridge, in a network of their own, reached by SSH.

    scripts/testbed up          Bed(names()).up()

The controller's side of the network is a namespace: programs that talk to the hosts run in it. Nothing is routed
between it and the machine's own network, so the hosts have no internet, and nothing outside can reach them.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.testbed import golden
from tests.testbed.cache import locked
from tests.testbed.machine import Machine
from tests.testbed.names import (
    BRIDGE,
    CONTROLLER_ADDRESS,
    HOSTS,
    PREFIX_LENGTH,
    USER,
    Names,
    TestbedError,
    address,
)
from tests.testbed.programs import LIMIT_S, missing_packages, run

BOOT_LIMIT_S = 180.0
"""Until SSH answers; two seconds on an idle machine."""

_DISK_SIZE = "12g"
"""Of the file system in memory for all hosts' changes; what is not written takes nothing."""

_POLL_S = 0.2
_END_LIMIT_S = 20.0


class Bed:
    """The hosts and their network; every method may be called again, and by another process.

    Args:
        names: which test bed.
        hosts: those to boot.
    """

    def __init__(self, names: Names, hosts: tuple[str, ...] = HOSTS) -> None:
        self.names = names
        self.machines = {host: Machine(host, names) for host in hosts}

    @property
    def ssh_config(self) -> Path:
        """For `ssh -F`: addresses, user, key and the hosts' own keys."""
        return self.names.folder / "ssh_config"

    def up(self, lent: Mapping[str, Mapping[Path, Path]] | None = None) -> None:
        """Boot every host and wait until SSH answers; those that are up stay as they are.

        Args:
            lent: by host, folders of this machine that it can read, by where it sees them.

        Raises:
            TestbedError: something is missing or failed; what had been made is gone again.
        """
        require_root_and_programs()
        with locked(self.names.lock_file):  # one `up` or `down` at a time
            if self._all_answer():
                return
            self._remove()
            try:
                self._create(lent or {})
            except BaseException:  # Ctrl-C as well: half a test bed must not stay
                self._cut_power()
                self._remove()
                raise

    def down(self) -> None:
        """Switch off and remove everything; a no-op when nothing is there."""
        with locked(self.names.lock_file):  # one `up` or `down` at a time
            self._remove()

    def wait_for_ssh(self, *hosts: str) -> None:
        """Wait until these hosts (or all) let us in: one after the other, as threads would outlive a Ctrl-C."""
        for host in hosts or self.machines:
            self._wait_for_ssh(host)

    def ssh(self, host: str, *command: str) -> list[str]:
        """The command line that runs `command` on a host, or a shell there when there is none."""
        return self.names.on_controller("ssh", "-F", str(self.ssh_config), host, *command)

    def on(self, host: str, command: str, *, limit_s: float = LIMIT_S) -> str:
        """Run a shell command on a host as root; what it wrote on stdout. TestbedError when it fails."""
        return run(*self.ssh(host, "sudo -n sh"), stdin=command, limit_s=limit_s).stdout

    def _create(self, lent: Mapping[str, Mapping[Path, Path]]) -> None:
        layer = golden.golden_layer()
        folder = self.names.folder
        folder.mkdir(parents=True)
        run("mount", "-t", "tmpfs", "-o", f"size={_DISK_SIZE},mode=0700", self.names.namespace, str(folder))
        self._create_network()
        key = folder / "key"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "operator", "-f", str(key))
        authorized = key.with_suffix(".pub").read_text().strip()
        host_keys = {
            host: machine.prepare(layer, authorized, lent.get(host, {})) for host, machine in self.machines.items()
        }
        self._write_ssh_config(key, host_keys)
        for machine in self.machines.values():
            machine.boot()
        next(iter(self.machines.values())).cgroup.parent.set_weight(len(self.machines))
        self.wait_for_ssh()

    def _create_network(self) -> None:
        namespace = self.names.namespace
        run("ip", "netns", "add", namespace)
        for command in (
            "link set lo up",
            f"link add {BRIDGE} type bridge",
            f"address add {CONTROLLER_ADDRESS}/{PREFIX_LENGTH} dev {BRIDGE}",
            f"link set {BRIDGE} up",
        ):
            run("ip", "-n", namespace, *command.split())

    def _write_ssh_config(self, key: Path, host_keys: Mapping[str, str]) -> None:
        known = self.names.folder / "known_hosts"
        known.write_text("".join(f"{address(host)} {public}\n" for host, public in host_keys.items()))
        hosts = "".join(f"Host {host} {address(host)}\n  HostName {address(host)}\n" for host in self.machines)
        self.ssh_config.write_text(
            f"{hosts}Host *\n  User {USER}\n  IdentityFile {key}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {known}\n  StrictHostKeyChecking yes\n  BatchMode yes\n  ConnectTimeout 10\n"
        )

    def _wait_for_ssh(self, host: str) -> None:
        deadline_s = time.monotonic() + BOOT_LIMIT_S
        while not self._answers(host):
            if time.monotonic() > deadline_s:
                said = self.machines[host].last_words()
                raise TestbedError(f"{host} did not answer SSH within {BOOT_LIMIT_S:.0f} s; its console:\n{said}")
            time.sleep(_POLL_S)

    def _answers(self, host: str) -> bool:
        if not self.ssh_config.exists() or not self.names.namespace_file.exists():
            return False
        command = self.ssh(host, "true")
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0

    def _all_answer(self) -> bool:
        return all(machine.running for machine in self.machines.values()) and all(map(self._answers, self.machines))

    def _cut_power(self) -> None:
        """A host that is half booted may not hear that it is to shut down, and has nothing to lose."""
        for machine in self.machines.values():
            machine.power_cut()

    def _remove(self) -> None:
        # All hosts of the layout, not only ours: a smaller bed must not trip over a larger one's remains.
        machines = [Machine(host, self.names) for host in HOSTS]
        for machine in machines:
            machine.request_power_off()
        for machine in machines:
            machine.remove()
        self._remove_network()
        folder = self.names.folder
        if os.path.ismount(folder):
            run("umount", str(folder))
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            folder.parent.rmdir()  # another test bed may be in it
        for machine in machines[:1]:
            machine.cgroup.parent.remove()

    def _remove_network(self) -> None:
        if not self.names.namespace_file.exists():
            return
        # What is left in the namespace is ours: SSH connections that Ansible keeps open, a delay, a shell.
        deadline_s = time.monotonic() + _END_LIMIT_S
        while pids := run("ip", "netns", "pids", self.names.namespace).stdout.split():
            for pid in map(int, pids):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline_s:
                raise TestbedError(f"processes {pids} in the network namespace {self.names.namespace} do not end")
            time.sleep(_POLL_S)
        run("ip", "netns", "delete", self.names.namespace)


def require_root_and_programs() -> None:
    """TestbedError when this machine cannot have a test bed; the text says what to do."""
    if os.geteuid() != 0:
        raise TestbedError("the test bed needs root, for containers and network namespaces: run it with sudo")
    if missing := missing_packages():
        raise TestbedError(f"the test bed needs more programs: sudo apt install {' '.join(missing)}")
