"""Files that are either the old one or the new one, whatever happens while they are written.

Used for everything in a run's folder that is replaced as a whole. What is appended to is `run_folder.py`'s.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from schemas.errors import StorageError, why_not_written

TEMPORARY_SUFFIX = ".unfinished"

_GROUP_BYTES = 1024 * 1024
_GROUP_PIECES = 256  # the kernel takes at least 1,024 (IOV_MAX)


def replace_file(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Write `path` so that a crash or power cut at any moment leaves the old content or the new, never a mixture.

    The pieces go to a file beside it, one after the other, so the whole need never be in memory. When this
    returns the new content is on the disk. One writer per path at a time.

    Raises:
        StorageError: names the file; the old content is untouched.
    """
    # A fixed name: what a killed writer left behind is overwritten by the next one instead of piling up.
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        _write_synced(temporary, pieces)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise StorageError(f"cannot write {path}: {why_not_written(error)}") from error


def sync_folder(folder: Path) -> None:
    """Make the names inside a folder survive a power cut; raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, writable by their owner alone.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the folder {folder}: {why_not_written(error)}") from error


def _write_synced(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        for group in _groups(pieces):
            _write_all(fd, group)
        os.fsync(fd)
    finally:
        os.close(fd)


def _groups(pieces: Iterable[bytes | memoryview]) -> Iterator[list[memoryview]]:
    """Pieces to be written with one call: one after the other costs more than the writing when they are small."""
    group: list[memoryview] = []
    size = 0
    for piece in pieces:
        group.append(memoryview(piece).cast("B"))
        size += len(group[-1])
        if size >= _GROUP_BYTES or len(group) == _GROUP_PIECES:
            yield group
            group, size = [], 0
    yield group


def _write_all(fd: int, group: list[memoryview]) -> None:
    while group:
        written = os.writev(fd, group)
        while group and written >= len(group[0]):
            written -= len(group.pop(0))
        if group:
            group[0] = group[0][written:]
