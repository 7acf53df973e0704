"""Processes of a federation that start in milliseconds: forked from a server that has loaded torch and us already."""

import multiprocessing
import multiprocessing.process
import os
import signal
from multiprocessing.context import ForkServerContext
from pathlib import Path

from tests.integration.federation import LIMIT_S, Process, Running
from tests.integration.halting_party import QUICK, Halt, party
from transport.timing import Timing

PRELOADED = (
    "torch",
    "coordinator.cli",
    "edge_agent.cli",
    "learning.evaluation",
    "learning.folders",
    "learning.initialisation",
    "learning.learner",
    "tests.integration.halting_party",
)


def fork_server() -> ForkServerContext:
    """The server that this test session forks from; it ends with the session."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


class ForkedProcess(Process):
    """A party's program, `python -m MODULE ARGUMENTS`, without the seconds that loading it takes.

    Attributes:
        halt: where the next start stops itself; later ones do not.
        timing: of its connection; two processes of one agent need the usual one to find out about each other.
    """

    halt: Halt | None = None
    timing: Timing = QUICK

    def _launch(self, command: list[str]) -> Running:
        _python, _m, module, *arguments = command
        halt, self.halt = self.halt, None
        self.log_file.touch()
        process = fork_server().Process(
            target=party, args=(module, arguments, self.log_file, halt, self.timing), daemon=True
        )
        process.start()
        return _Forked(process)

    @property
    def stands_still(self) -> bool:
        """True when it has stopped itself, or was suspended."""
        status = Path(f"/proc/{self.pid}/stat").read_text()
        return status.rpartition(")")[2].split()[0] == "T"

    def go_on(self) -> None:
        """Let it go on from where it stands still."""
        self.signal(signal.SIGCONT)


class _Forked:
    """A forked process, as `subprocess.Popen` would show it."""

    def __init__(self, process: multiprocessing.process.BaseProcess) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout if timeout is not None else LIMIT_S)
        code = self._process.exitcode
        if code is None:
            raise TimeoutError(f"process {self.pid} did not end within {timeout} s")
        return code

    def kill(self) -> None:
        self._process.kill()

    def terminate(self) -> None:
        self._process.terminate()

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)
