"""The part of a run's `record.jsonl` whose points no server has acknowledged yet.

How far that is stands in a cursor file beside it, which is replaced only after an acknowledgement: whoever is
killed in between sends some points again, and those replace themselves. Sending is `shipping.py`'s.
"""

import hashlib
import json
import logging
import os
from typing import BinaryIO

from coordinator.durable import replace_file
from coordinator.run_folder import RunFolder, parse_record, read_lines
from schemas.errors import StorageError
from schemas.metrics import Point, PointStream

logger = logging.getLogger(__name__)


class Backlog:
    """Reads a run's records in order, as points, from where the last acknowledgement left off.

    Args:
        target: names the server and bucket; a cursor that belongs to another one starts from the beginning.
        anew: start from the beginning whatever was acknowledged.

    Raises:
        StorageError: the run's files cannot be read.
    """

    def __init__(self, run: RunFolder, target: str, *, anew: bool = False) -> None:
        self._record_path = run.record_path
        self._cursor_path = run.cursor_path
        self._target = target
        self._cursor_bytes: int
        self._counted: tuple[int, int]
        self._start_anew()
        if not anew:
            self._resume()

    def next_points(self, at_least: int) -> list[Point]:
        """The points that are to be sent next, of whole lines; the same ones again until they are acknowledged.

        Their lines are on the disk when this returns. A server that knew more than the disk does after a power cut
        would count a round twice: as it was, and as it is repeated.

        Args:
            at_least: stop at this many, if there are so many.

        Raises:
            StorageError: the file cannot be read.
        """
        synced_bytes = self._sync()
        for line in read_lines(self._record_path, self._read_bytes):
            if len(self._unsent) >= at_least or self._read_bytes + len(line) > synced_bytes:
                break
            self._unsent += self._take(line)
        return list(self._unsent)

    def acknowledge(self) -> None:
        """The server has all that `next_points` gave: never send it again.

        Raises:
            StorageError: the cursor cannot be written; another process would send them again, which does no harm.
        """
        self._unsent.clear()
        self._acknowledged_lines = self._read_lines
        if self._cursor_bytes != self._read_bytes:
            cursor = {"target": self._target, "bytes": self._read_bytes, "sha256": self._hash.hexdigest()}
            replace_file(self._cursor_path, [json.dumps(cursor).encode()])
            self._cursor_bytes = self._read_bytes

    def waiting_lines(self) -> int:
        """How many records have not been acknowledged.

        Raises:
            StorageError: the file cannot be read.
        """
        num_lines, num_bytes = self._counted
        for line in read_lines(self._record_path, num_bytes):
            num_lines += 1
            num_bytes += len(line)
        self._counted = num_lines, num_bytes
        return num_lines - self._acknowledged_lines

    def _start_anew(self) -> None:
        self._stream = PointStream()
        self._unsent: list[Point] = []
        self._hash = hashlib.sha256()
        self._read_lines = 0
        self._read_bytes = 0
        self._acknowledged_lines = 0
        self._cursor_bytes = 0
        # Lines and bytes in one value, as several threads read and replace it.
        self._counted = (0, 0)

    def _resume(self) -> None:
        """Go to the cursor, past the lines that it covers; to the beginning when they are not what they were."""
        covered_bytes, sha256 = self._read_cursor()
        if not covered_bytes:
            return
        for line in read_lines(self._record_path):
            if self._read_bytes >= covered_bytes:
                break
            self._take(line)
        if self._read_bytes == covered_bytes and self._hash.hexdigest() == sha256:
            self._acknowledged_lines = self._read_lines
            self._cursor_bytes = covered_bytes
            self._counted = (self._read_lines, self._read_bytes)
            return
        logger.warning("%s does not belong to %s: sending everything again", self._cursor_path, self._record_path)
        self._start_anew()

    def _take(self, line: bytes) -> list[Point]:
        self._read_lines += 1
        self._read_bytes += len(line)
        self._hash.update(line)
        record = parse_record(line, self._record_path)
        return [] if record is None else self._stream.feed(record)

    def _read_cursor(self) -> tuple[int, str]:
        try:
            cursor = json.loads(self._cursor_path.read_bytes())
            if cursor["target"] != self._target:
                logger.info("metrics of this run went to %s before: sending everything again", cursor["target"])
                return 0, ""
            return int(cursor["bytes"]), str(cursor["sha256"])
        except FileNotFoundError:
            return 0, ""
        except OSError as error:
            raise StorageError(f"cannot read {self._cursor_path}: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError):
            logger.warning("%s is damaged: sending everything again", self._cursor_path)
            return 0, ""

    def _sync(self) -> int:
        """Force the file onto the disk, when there is anything new; returns how much of it is there.

        A failed append may have been taken back after it was read here: then everything is sent again.
        """
        try:
            with self._record_path.open("rb") as file:
                size_bytes = file.seek(0, os.SEEK_END)
                if self._read_bytes and not _ends_line(file, self._read_bytes):
                    logger.warning("%s was cut short: sending everything again", self._record_path)
                    self._start_anew()
                if size_bytes > self._read_bytes:
                    os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(f"cannot read {self._record_path}: {error.strerror or error}") from error
        return size_bytes


def _ends_line(file: BinaryIO, end_bytes: int) -> bool:
    file.seek(end_bytes - 1)
    return file.read(1) == b"\n"
