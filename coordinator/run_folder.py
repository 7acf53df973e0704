"""The folder that holds everything about one run: configuration, records, checkpoints, and who is writing it.

`record.jsonl` holds one JSON line per record, in the order in which things happened. Reports, dashboards and
replays come from it alone. Nothing here knows what a round is or when one closes.
"""

import contextlib
import errno
import json
import logging
import os
import secrets
import string
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from coordinator.durable import make_folder, replace_file, sync_folder
from schemas.errors import StorageError, why_not_written
from schemas.identifiers import checked_identifier, is_identifier
from schemas.records import RECORDS, DeviceRecord, RoundRecord, RunEvent
from transport import file_lock

logger = logging.getLogger(__name__)

Record = RoundRecord | DeviceRecord | RunEvent

RECORD_TYPES = ("round", "device", "event")


def new_run_id(utc_s: float | None = None) -> str:
    """A run id that is readable and sorts by time, such as `20261123-114500-kqzv`.

    Args:
        utc_s: the moment in the name; now when None.
    """
    moment = time.gmtime(utc_s)
    tail = "".join(secrets.choice(string.ascii_lowercase) for _ in range(4))
    return f"{time.strftime('%Y%m%d-%H%M%S', moment)}-{tail}"


def list_runs(root: Path) -> list["RunFolder"]:
    """The runs below `root`, newest first; folders without a configuration are no runs.

    Raises:
        StorageError: `root` cannot be read. One that does not exist holds no runs.
    """
    return [RunFolder.open(root, name) for _, name in sorted(_run_ids_by_age(root), reverse=True)]


def newest_run_id(root: Path) -> str | None:
    """The run that `list_runs` has first, without opening any; None when there is none.

    Raises:
        StorageError: `root` cannot be read.
    """
    return max(_run_ids_by_age(root), default=(0, None))[1]


def _run_ids_by_age(root: Path) -> list[tuple[int, str]]:
    try:
        found = [(path.stat().st_mtime_ns, path.parent.name) for path in root.glob("*/config.json")]
    except OSError as error:
        raise StorageError(f"cannot read the folder {root}: {error.strerror or error}") from error
    return [(moment_ns, name) for moment_ns, name in found if is_identifier(name)]


class RunFolder:
    """One run's folder.

    Any number of processes may read it at any time. Writing takes `lock()`, which one process can hold.

    Attributes:
        path: the folder itself.
        run_id: its name.
        config: what `create` was given.
    """

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path = path
        self.run_id = path.name
        self.config = config
        self.record_path = path / "record.jsonl"
        self.cursor_path = path / "metrics.cursor"
        self.checkpoints_path = path / "checkpoints"
        self.shipping_lock_path = path / "metrics.lock"
        self._releases_path = path / "releases"
        self._lock_path = path / "coordinator.lock"
        self._record_file: _RecordFile | None = None

    @classmethod
    def create(cls, root: Path, run_id: str, config: Mapping[str, Any]) -> Self:
        """Make the folder of a new run below `root`, itself made when missing.

        Args:
            config: anything that JSON can hold; it stays readable as `config.json`.

        Raises:
            StorageError: the run exists already, or the disk does not allow it.
        """
        checked_identifier(run_id, "run id")
        make_folder(root)
        path = root / run_id
        try:
            path.mkdir(mode=0o755)
        except FileExistsError as error:
            raise StorageError(f"the run folder {path} exists already: resume it, or choose another run id") from error
        except OSError as error:
            raise StorageError(f"cannot make the run folder {path}: {why_not_written(error)}") from error
        make_folder(path / "checkpoints")
        replace_file(path / "record.jsonl", ())
        # Last, so that a folder with a configuration is a complete one.
        replace_file(path / "config.json", [json.dumps(config, indent=2).encode() + b"\n"])
        _sync(root)
        return cls.open(root, run_id)

    @classmethod
    def open(cls, root: Path, run_id: str) -> Self:
        """The folder of an existing run.

        Raises:
            StorageError: there is no such run, or its `config.json` cannot be read.
        """
        checked_identifier(run_id, "run id")
        path = root / run_id / "config.json"
        try:
            config = json.loads(path.read_bytes())
        except FileNotFoundError as error:
            raise StorageError(f"there is no run {run_id!r} in {root}: {path} is missing") from error
        except (OSError, ValueError) as error:
            raise StorageError(f"cannot read {path}: {error}") from error
        if not isinstance(config, dict):
            raise StorageError(f"cannot read {path}: expected a JSON object")
        return cls(path.parent, config)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for writing; the lock goes with the process, however that ends.

        A line that was cut off when the last writer died is removed from `record.jsonl`: its `append` had not
        returned, so nobody relies on it.

        Raises:
            StorageError: another process holds it (the text names its pid), or the folder is not writable.
        """
        with file_lock.hold(self._lock_path, f"the run {self.run_id}"):
            self._record_file = _RecordFile(self.record_path)
            try:
                yield
            finally:
                self._record_file.close()
                self._record_file = None

    def ask_release(self, agent_id: str) -> None:
        """Leave word that an agent is let out of quarantine, for whoever coordinates the run now or later.

        Raises:
            StorageError: the disk does not allow it.
        """
        make_folder(self._releases_path)
        replace_file(self._releases_path / checked_identifier(agent_id, "agent id"), ())

    def releases(self) -> list[str]:
        """The agents of `ask_release` that were not let out yet, sorted."""
        try:
            return sorted(path.name for path in self._releases_path.iterdir() if is_identifier(path.name))
        except OSError:
            return []

    def forget_release(self, agent_id: str) -> None:
        """It was let out."""
        with contextlib.suppress(OSError):
            (self._releases_path / agent_id).unlink()

    def append(self, record: Record, *, durable: bool = False) -> None:
        """Add one line to `record.jsonl`; only inside `lock()`.

        The line is with the operating system when this returns: it outlives this process, whatever happens to it.
        A power cut can cost the lines since the last round record, durable record or `sync()`, as those alone
        force everything before them onto the disk. After an error the file is as it was, and may be appended to
        again.

        Raises:
            StorageError: the disk is full or not writable.
        """
        self._open_record().append(record.model_dump_json().encode() + b"\n", durable=durable or record.type == "round")

    def sync(self) -> None:
        """Force everything appended onto the disk."""
        self._open_record().sync()

    def records(self, types: Collection[str] = RECORD_TYPES) -> list[Record]:
        """What happened, in order; of records with the same key, the last one, in the first one's place.

        Args:
            types: of `round`, `device` and `event`, those wanted: leaving out devices saves time and memory.
        """
        kept: dict[object, Record] = {}
        unwanted = tuple(f'{{"type":"{name}"'.encode() for name in RECORD_TYPES if name not in types)
        for line in read_lines(self.record_path):
            if line.startswith(unwanted):
                continue  # without parsing it
            record = parse_record(line, self.record_path)
            if record is not None and record.type in types:
                kept[record.key] = record
        return list(kept.values())

    def lock_holder(self) -> int | None:
        """The pid of the process that is writing this run now (0 when it has not said yet), or None."""
        return file_lock.holder(self._lock_path)

    def _open_record(self) -> "_RecordFile":
        if self._record_file is None:
            raise StorageError(f"{self.record_path} may only be written while the run's lock is held")
        return self._record_file


class _RecordFile:
    """`record.jsonl` open for appending, by its only writer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise self._error(error) from error
        try:
            size = os.fstat(self._fd).st_size
            self._size = _end_of_last_line(self._fd, size)
            self._torn = self._size < size
            self._mend()
        except OSError as error:
            os.close(self._fd)
            raise self._error(error) from error

    def append(self, line: bytes, *, durable: bool) -> None:
        try:
            self._mend()
            self._torn = True
            if os.write(self._fd, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if durable:
                os.fsync(self._fd)
        except OSError as error:
            with contextlib.suppress(OSError):  # otherwise the next append mends it
                self._mend()
            raise self._error(error) from error
        self._size += len(line)
        self._torn = False

    def sync(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise self._error(error) from error

    def close(self) -> None:
        os.close(self._fd)

    def _mend(self) -> None:
        """Cut off what an append that failed half-way has left behind."""
        if self._torn:
            os.ftruncate(self._fd, self._size)
            self._torn = False

    def _error(self, error: OSError) -> StorageError:
        return StorageError(f"cannot write {self._path}: {why_not_written(error)}")


def read_lines(path: Path, offset: int = 0) -> Iterator[bytes]:
    """The complete lines of a file from `offset` on, newline included; one being written just now is left out.

    Raises:
        StorageError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                yield line
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error


def parse_record(line: bytes, path: Path) -> Record | None:
    """The record of a line; None, with a warning, for one that a newer release or a failing disk has written."""
    try:
        return RECORDS.validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        logger.warning("skipped a line of %s that is not a record: %s: %.80r", path, first["msg"], line)
        return None


def _end_of_last_line(fd: int, size: int, block_bytes: int = 65536) -> int:
    end = size
    while end > 0:
        start = max(0, end - block_bytes)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _sync(folder: Path) -> None:
    try:
        sync_folder(folder)
    except OSError as error:
        raise StorageError(f"cannot write the folder {folder}: {why_not_written(error)}") from error
