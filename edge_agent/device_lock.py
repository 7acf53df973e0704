"""One agent per state folder: two processes with one would overwrite each other's updates.

The lock also tells `doctor` that the agent is running, so that it does not throw it out at the broker.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from schemas.errors import StorageError, why_not_written
from transport import file_lock

_FILE_NAME = "agent.lock"


@contextlib.contextmanager
def hold(state_folder: Path) -> Iterator[None]:
    """Hold the lock; the folder is made when missing, readable by its owner alone.

    Raises:
        StorageError: another process holds it (the text names its pid), or the folder is not writable.
    """
    try:
        state_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"state_folder {state_folder} cannot be written: {why_not_written(error)}") from error
    remedy = "stop it, or give this one a folder of its own"
    with file_lock.hold(state_folder / _FILE_NAME, f"state_folder {state_folder}", remedy):
        yield


def holder(state_folder: Path) -> int | None:
    """The pid of the agent that uses the folder now (0 when it cannot be told), or None.

    Raises:
        StorageError: the lock's file cannot be read.
    """
    return file_lock.holder(state_folder / _FILE_NAME)
