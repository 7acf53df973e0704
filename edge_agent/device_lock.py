"""One agent per state folder: a lock that goes with the process, however that ends.

Two processes with one state folder would overwrite each other's updates. The lock also tells `doctor` that the agent
is running, so that it does not throw it out at the broker.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from schemas.errors import StorageError, why_not_written

_FILE_NAME = "agent.lock"


@contextlib.contextmanager
def hold(state_folder: Path) -> Iterator[None]:
    """Hold the lock; the folder is made when missing, readable by its owner alone.

    Raises:
        StorageError: another process holds it (the text names its pid), or the folder is not writable.
    """
    path = state_folder / _FILE_NAME
    try:
        state_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StorageError(f"state_folder {state_folder} cannot be written: {why_not_written(error)}") from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageError(
                f"another agent, pid {_pid(fd) or 'unknown'}, uses state_folder {state_folder}: stop it, or give this "
                "one a folder of its own"
            ) from error
        with contextlib.suppress(OSError):  # on a full disk there is a lock all the same
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def holder(state_folder: Path) -> int | None:
    """The pid of the agent that uses the folder now (0 when it cannot be told), or None."""
    try:
        fd = os.open(state_folder / _FILE_NAME, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid(fd)
    finally:
        os.close(fd)
    return None


def _pid(fd: int) -> int:
    text = os.pread(fd, 20, 0).strip()
    return int(text) if text.isdigit() else 0
