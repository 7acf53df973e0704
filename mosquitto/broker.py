"""A Mosquitto of one's own: on a free loopback port, in its own folder, gone when the block ends.

The demo and the tests use it. It ends and signals only the process that it started, and never touches a broker
that the machine already runs. It waits for answers, not for time to pass.
"""

import os
import pwd
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from mosquitto.render import BrokerSettings, PlainListener, TlsListener, render
from mosquitto.sizing import BrokerLimits, limits_for
from schemas.errors import FederationError

LOOPBACK = "127.0.0.1"

_ANSWER_LIMIT_S = 20.0
_STOP_LIMIT_S = 10.0
_POLL_S = 0.01
_PORT_ATTEMPTS = 5
_LOG_TAIL_LINES = 15
# Debian keeps daemons where a user's PATH does not look.
_SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin:/sbin"
# MQTT 5 CONNECT: clean start, keep alive 10 s, no properties, client id "probe". Any CONNACK is an answer.
_CONNECT_PACKET = bytes.fromhex("10 12 00 04 4d 51 54 54 05 02 00 0a 00 00 05") + b"probe"
_CONNACK = 0x20


class BrokerError(FederationError):
    """A broker could not be started, or did not answer; the text says why and what to do."""


class BrokerMissingError(BrokerError):
    """Mosquitto is not installed."""


class PrivateBroker:
    """A real broker for the length of a `with` block.

    Args:
        folder: holds configuration, log and database; made when missing.
        passwords: by user. Without any, clients are anonymous and the ACL lets them do next to nothing.
        limits: of the broker; sized for small models and a few agents when not given.
        topic_prefix: of the federation's topics.
        tls: a second listener with certificates, on loopback unless it has an address; its port may be 0 for a free
            one.
        settings: start from these instead of the defaults; listeners, users, prefix and limits are replaced.

    Attributes:
        host: loopback.
        port: of the plain listener; the same after `restart`.
        tls_port: of the TLS listener, 0 when there is none.
        folder, passwords, limits: as given.
        log_file: everything that the broker said, over all restarts.
    """

    def __init__(  # noqa: PLR0913 (five of six are optional, and each stands for one file of the folder)
        self,
        folder: Path,
        passwords: Mapping[str, str] | None = None,
        *,
        limits: BrokerLimits | None = None,
        topic_prefix: str = "fl",
        tls: TlsListener | None = None,
        settings: BrokerSettings | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self.passwords = dict(passwords or {})
        self.limits = limits or limits_for(model_bytes=1024 * 1024, num_agents=16)
        self.host = LOOPBACK
        self.port = 0
        self.tls_port = 0
        self.log_file = self.folder / "mosquitto.log"
        self._topic_prefix = topic_prefix
        self._tls = tls
        self._settings = settings or BrokerSettings(limits=self.limits)
        self._config_file = self.folder / "mosquitto.conf"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id of the running broker; BrokerError when it is not running."""
        return self._running().pid

    @property
    def running(self) -> bool:
        """True while the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the broker and wait until it answers; a no-op when it runs.

        Raises:
            BrokerMissingError: Mosquitto is not installed.
            BrokerError: it ended at once or did not answer; the text holds the end of its log.
        """
        if self.running:
            return
        if self.port:
            self._launch()
            return
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self._configure()
            try:
                self._launch()
            except BrokerError:
                # Another program may have taken the port between our look and the broker's.
                if attempt == _PORT_ATTEMPTS or "Address already in use" not in self.log():
                    self.port = 0
                    raise
            else:
                return

    def stop(self) -> None:
        """End the broker in good order (it saves its database); a no-op when it is not running."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        try:
            process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End the broker as a power cut would; `start` brings it back."""
        process = self._running()
        process.kill()
        process.wait()
        self._process = None

    def restart(self) -> None:
        """Stop in good order and start again on the same port."""
        self.stop()
        self.start()

    def suspend(self) -> None:
        """Freeze the broker: connections stay open and nothing is answered until `resume`."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a suspended broker go on."""
        self._running().send_signal(signal.SIGCONT)

    def save(self) -> None:
        """Make the broker write its database now, and return when it is on disk."""
        before = self._saved_at_ns()
        self._running().send_signal(signal.SIGUSR1)
        self._wait_until(lambda: self._saved_at_ns() > before, "write its database")

    def log(self) -> str:
        """What the broker has said so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def wait_until_logged(self, text: str) -> None:
        """Wait until the broker has said `text`; BrokerError when it does not in good time."""
        self._wait_until(lambda: text in self.log(), f"log {text!r}")

    def _configure(self) -> None:
        self.port = free_port()
        self.tls_port = self._tls.port or free_port() if self._tls else 0
        tls = (replace(self._tls, port=self.tls_port, address=self._tls.address or LOOPBACK),) if self._tls else ()
        settings = replace(
            self._settings,
            limits=self.limits,
            plain_listeners=(PlainListener(port=self.port),),
            tls_listeners=tls,
            topic_prefix=self._topic_prefix,
            passwords=self.passwords,
            allow_anonymous=not self.passwords,
            os_user=_name_of_root(),
            log_destination="stderr",
        )
        self._config_file = render(self.folder, settings).config_file

    def _launch(self) -> None:
        offset = self.log_file.stat().st_size if self.log_file.exists() else 0
        command = [find_mosquitto(), "-c", str(self._config_file)]
        with self.log_file.open("ab") as log:
            # Its own process group: Ctrl-C reaches the demo, which then ends its parts in order.
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0)
        try:
            _allow_open_files(self._process.pid, self.limits.open_files)
            # The log tells our broker from another one that happens to answer on this port.
            self._wait_until(lambda: " running\n" in self._log_from(offset), "start")
            self._wait_until(lambda: _answers(self.port), "answer")
        except BaseException:
            self.stop()
            raise

    def _wait_until(self, condition: Callable[[], bool], what: str) -> None:
        deadline_s = time.monotonic() + _ANSWER_LIMIT_S
        while not condition():
            process = self._process
            ended = process is None or process.poll() is not None
            if ended or time.monotonic() > deadline_s:
                how = "ended instead" if ended else f"took more than {_ANSWER_LIMIT_S:.0f} s"
                raise BrokerError(f"mosquitto did not {what}: it {how}. End of {self.log_file}:\n{self._tail()}")
            time.sleep(_POLL_S)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise BrokerError(f"the broker is not running. End of {self.log_file}:\n{self._tail()}")
        return self._process

    def _log_from(self, offset: int) -> str:
        with self.log_file.open("rb") as log:
            log.seek(offset)
            return log.read().decode(errors="replace")

    def _tail(self) -> str:
        return "\n".join(self.log().splitlines()[-_LOG_TAIL_LINES:])

    def _saved_at_ns(self) -> int:
        database = self.folder / "data" / "mosquitto.db"
        return database.stat().st_mtime_ns if database.exists() else 0


def find_mosquitto() -> str:
    """Path of the broker's program.

    Raises:
        BrokerMissingError: not installed; the text says how to.
    """
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path=_SYSTEM_FOLDERS)
    if program is None:
        raise BrokerMissingError("Mosquitto is not installed: run 'sudo apt install mosquitto'")
    return program


def free_port() -> int:
    """A loopback TCP port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    """True when a CONNECT is answered, be it with a refusal."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1.0) as connection:
            connection.sendall(_CONNECT_PACKET)
            return connection.recv(1)[:1] == bytes([_CONNACK])
    except OSError:
        return False


def _name_of_root() -> str:
    """Root's name when that is who we are: Mosquitto would otherwise become a user who cannot read the folder."""
    return pwd.getpwuid(0).pw_name if os.geteuid() == 0 else ""


def _allow_open_files(pid: int, wanted: int) -> None:
    """Raise the process's soft limit of open files as far as it is needed and allowed."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, hard))
