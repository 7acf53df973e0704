"""A lock file that one process holds at a time and that goes with the process, however that ends.

The file stays where it is; what counts is the kernel's lock on it (flock). It holds the owner's pid, for people.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from schemas.errors import StorageError, why_not_written

_TRIES = 3
_PAUSE_S = 0.05


@contextlib.contextmanager
def hold(path: Path, what: str, remedy: str = "") -> Iterator[None]:
    """Hold the lock; the file is made when missing.

    Args:
        what: is locked, to say in the error, such as "the run xyz".
        remedy: what to do when somebody else holds it, if there is more to say.

    Raises:
        StorageError: another process holds it (the text names its pid), or the file cannot be written.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {why_not_written(error)}") from error
    try:
        if not _try_lock(fd):
            pid = _read_pid(fd) or "unknown"
            raise StorageError(f"{what} is in use by another process, pid {pid} ({path})" + (remedy and f": {remedy}"))
        with contextlib.suppress(OSError):  # on a full disk there is a lock all the same
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def holder(path: Path) -> int | None:
    """The pid of the process that holds the lock now (0 when it has not said), or None.

    Raises:
        StorageError: the file cannot be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_pid(fd)
    finally:
        os.close(fd)
    return None


def _try_lock(fd: int) -> bool:
    for attempt in range(_TRIES):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # `holder`, asked by somebody who lists runs or by the doctor, has it for a moment, too.
            if attempt + 1 < _TRIES:
                time.sleep(_PAUSE_S)
        else:
            return True
    return False


def _read_pid(fd: int) -> int:
    text = os.pread(fd, 20, 0).strip()
    return int(text) if text.isdigit() else 0
