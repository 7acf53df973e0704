"""The page's server as operators start it: a process of its own, `coordinator web`."""

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LIMIT_S = 180.0


class WebProcess:
    """`coordinator web` on a port that stays the same when it is started again."""

    def __init__(self, runs: Path, log: Path, *options: str) -> None:
        self._log = log
        self._command = [sys.executable, "-m", "coordinator.cli", "-v", "web", "--runs", str(runs), *options]
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the page is, for this machine."""
        scheme = "https" if "--tls-cert" in self._command else "http"
        return f"{scheme}://127.0.0.1:{self._port}/"

    def start(self) -> None:
        """Start it (again); returns once it listens."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, "--port", str(self._port)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline_s = time.monotonic() + LIMIT_S
        while not (found := re.findall(r"the page is at \S+:(\d+)/", self.log())) or not self._listens(int(found[-1])):
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline_s, self.log()
            time.sleep(0.02)
        self._port = int(found[-1])

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def terminate(self) -> int:
        """Ask it to end; its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(LIMIT_S)

    def log(self) -> str:
        """Everything that it has said."""
        return self._log.read_text() if self._log.exists() else ""

    def cleanup(self) -> None:
        """End it whatever it does."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    @staticmethod
    def _listens(port: int) -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S).close()
        except OSError:
            return False
        return True


@contextmanager
def web(runs: Path, log: Path, *options: str) -> Iterator[WebProcess]:
    """The process, running."""
    process = WebProcess(runs, log, *options)
    try:
        process.start()
        yield process
    finally:
        process.cleanup()
