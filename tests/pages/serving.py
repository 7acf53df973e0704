"""The page's server as operators start it: a process of its own, `coordinator web`."""

import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.federation import Process

LIMIT_S = 180.0


class WebProcess(Process):
    """`coordinator web` on a port that stays the same when it is started again."""

    def __init__(self, runs: Path, log: Path, *options: str) -> None:
        command = [sys.executable, "-m", "coordinator.cli", "-v", "web", "--runs", str(runs), *options]
        super().__init__("web", command, log)
        self._port = 0

    @property
    def url(self) -> str:
        """Where the page is, for this machine."""
        scheme = "https" if "--tls-cert" in self.command else "http"
        return f"{scheme}://127.0.0.1:{self._port}/"

    def start(self, *arguments: str) -> None:
        """Start it (again); returns once it listens."""
        super().start("--port", str(self._port), *arguments)
        deadline_s = time.monotonic() + LIMIT_S
        while not (found := re.findall(r"the page is at \S+:(\d+)/", self.log())) or not self._listens(int(found[-1])):
            assert self.exit_code is None, self.log()
            assert time.monotonic() < deadline_s, self.log()
            time.sleep(0.02)
        self._port = int(found[-1])

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
