"""What is expensive to make and outlives test beds: made once, kept in a folder of the user's cache, shared by all.

A thing is known by its kind and by what went into it. When that changes it is made anew; one that nobody
has asked for in a week goes.
"""

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.testbed.names import cache_folder

_KEPT_S = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Cached:
    """A folder that is made when it is first asked for.

    Attributes:
        kind: one word.
        ingredients: whatever makes a folder made now differ from one made then.
        what: is made, for the person who waits.
        make: fills an empty folder.
    """

    kind: str
    ingredients: object
    what: str
    make: Callable[[Path], None]

    @property
    def folder(self) -> Path:
        """Its place, whether it has been made or not."""
        return cache_folder() / f"{self.kind}-{hashlib.sha256(repr(self.ingredients).encode()).hexdigest()[:12]}"

    @property
    def is_made(self) -> bool:
        """True when `get` returns at once."""
        return self.folder.exists()

    def get(self) -> Path:
        """The folder, whole: what an interruption left half made is made again."""
        with locked(cache_folder() / f"{self.kind}.lock"):
            if not self.is_made:
                print(f"testbed: making {self.what}, once", file=sys.stderr, flush=True)  # noqa: T201 (a person waits)
                self._make_whole()
                self._remove_forgotten()
            os.utime(self.folder)
        return self.folder

    def _make_whole(self) -> None:
        with tempfile.TemporaryDirectory(dir=self.folder.parent, prefix="making-") as beside:
            made = Path(beside) / self.kind
            made.mkdir()
            self.make(made)
            made.rename(self.folder)

    def _remove_forgotten(self) -> None:
        # Checkouts of other versions use others, so they are not gone at once; a test bed may stand on one.
        mounts = Path("/proc/mounts").read_text()
        for other in self.folder.parent.glob(f"{self.kind}-*"):
            if other.stat().st_mtime < time.time() - _KEPT_S and str(other) not in mounts:
                shutil.rmtree(other)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Nobody else on this machine is in a block with the same file."""
    descriptor = os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
