"""Kills a process with SIGKILL at each of its calls that change the disk, one after the other."""

import os
import signal
import warnings
from collections.abc import Callable
from typing import Any, Self
from unittest import mock

CALLS = ("mkdir", "open", "write", "pwrite", "pwritev", "writev", "ftruncate", "fsync", "replace", "close")


def survive_every_kill(write: Callable[[], object], check: Callable[[], object]) -> int:
    """Run `write` in a child that dies at its first call, then in one that dies at its second, and so on.

    After each death, `check` looks at what is left. Returns the number of deaths; the last child lives through.
    """
    deaths = 0
    while _child_dies(write, deaths + 1):
        check()
        deaths += 1
    check()
    return deaths


def _child_dies(write: Callable[[], object], at_call: int) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about forking: the child only writes files
        pid = os.fork()
    if pid == 0:
        try:
            with _Deadly(at_call):
                write()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the child failed; its traceback is above"
    return os.WIFSIGNALED(status)


class _Deadly:
    """Counts the calls; at the chosen one, a write is done by half and everything else not at all."""

    def __init__(self, at_call: int) -> None:
        self._left = at_call
        self._patches = [mock.patch.object(os, name, self._counting(name)) for name in CALLS]
        self._patches.append(mock.patch.object(os, "fdopen", self._fdopen))

    def __enter__(self) -> Self:
        for patch in self._patches:
            patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        for patch in self._patches:
            patch.stop()

    def _counting(self, name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*args: Any, **options: Any) -> Any:
            self._left -= 1
            if self._left == 0:
                if name in ("write", "pwrite"):
                    real(args[0], args[1][: len(args[1]) // 2], *args[2:])
                elif name in ("pwritev", "writev"):
                    whole = b"".join(args[1])
                    real(args[0], [whole[: len(whole) // 2]], *args[2:])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **options)

        return call

    def _fdopen(self, fd: int, *_: Any, **__: Any) -> "_CountedFile":
        return _CountedFile(fd)


class _CountedFile:
    """An unbuffered file whose writes are counted."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def fileno(self) -> int:
        return self._fd

    def write(self, piece: memoryview) -> int:
        return os.write(self._fd, piece)
