"""A small file system of its own that a test can fill and empty: a tmpfs, mounted on a folder. Needs root."""

import contextlib
import os
import subprocess
from pathlib import Path
from typing import Self

SIZE_KIB = 16 * 1024
FILES = 256
BLOCK_BYTES = 4096


class NoMountError(Exception):
    """This machine does not let us mount anything; the text says why."""


class SmallDisk:
    """Mounted on a folder while entered.

    Args:
        folder: made when missing; what is in it is out of sight meanwhile.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast: list[Path] = []

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise NoMountError("mounting a file system needs root")
        self.folder.mkdir(parents=True, exist_ok=True)
        options = f"size={SIZE_KIB}k,nr_inodes={FILES},mode=700"
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "small-disk", str(self.folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if mounted.returncode:
            raise NoMountError(f"cannot mount a tmpfs on {self.folder}: {mounted.stderr.strip()}")
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", str(self.folder)], check=True)

    def fill(self) -> None:
        """Leave no block free, and no room for another file."""
        ballast = self._another()
        with ballast.open("wb", 0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(BLOCK_BYTES))
        with contextlib.suppress(OSError):
            while True:
                self._another().touch()

    def make_room(self) -> None:
        """Take back all that `fill` has put there."""
        for ballast in self._ballast:
            ballast.unlink(missing_ok=True)
        self._ballast.clear()

    def _another(self) -> Path:
        ballast = self.folder / f"ballast-{len(self._ballast)}"
        self._ballast.append(ballast)
        return ballast
