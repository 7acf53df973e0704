"""An agent's memory across restarts: its pending update and what it carries from round to round.

One folder per run: a slot file for the one update that is pending, a file per carry. The two are kept differently,
because losing them costs different things.

*The update* can be made again: the same model, examples, order and carry give the same bytes. So it is written into
the slot in place, without syncing, creating or removing a file, and stays there until the next one overwrites it. A
killed process loses nothing, as the operating system has the bytes; one that was killed while writing, and a power
cut, leave a checksum that does not fit, and the round is trained again. That an update which is still waited for after
`SYNC_AFTER_S` need not be trained again even then, a background thread syncs it. Rounds that close faster than that
cost no sync at all, which spares SD cards, too.

*A carry* cannot be made again once later rounds rest on it, so it is on the disk before `keep_carry` returns, and the
engine lets an update with a carry go out only after that; while the disk is full it stays here. A carry whose update
never went out does no harm: it takes effect only when the coordinator says that the round closed with the update. Those
of both rounds are there until then, so whatever moment the power fails at, the round can be repeated with the same
bytes.
"""

import contextlib
import json
import logging
import os
import re
import shutil
import struct
import threading
import zlib
from collections.abc import Iterable
from pathlib import Path

from edge_agent.events import Carry, HeldModel, PendingUpdate
from schemas.errors import PayloadError, StorageError, is_full, why_not_written
from schemas.weights import decode, digest, encode, segments

log = logging.getLogger(__name__)

SYNC_AFTER_S = 1.0
"""How long an update may be pending before it is worth a sync."""

REMEMBERED_STARTS = 64
"""More than a device makes while a connection can be on its way, even when it crashes as soon as it is started."""

_STARTS_NAME = "starts"
_SLOT_NAME = "update.slot"
_MODEL_NAME = "model.safetensors"
_CARRY = re.compile(r"carry-(\d{1,7})\.safetensors\Z")
_SLOT_HEAD = struct.Struct("<8sIQI")
_SLOT_MAGIC = b"FLUPDT02"


class Spool:
    """The folder of one agent's updates and carries. One process at a time writes it.

    Args:
        folder: made if it is missing, readable by the agent alone.
        agent_id: updates of anybody else that lie there are ignored.
        sync_after_s: see `SYNC_AFTER_S`.
    """

    def __init__(self, folder: Path, agent_id: str, sync_after_s: float = SYNC_AFTER_S) -> None:
        self._folder = folder
        self._agent_id = agent_id
        self._slot: _Slot | None = None
        self._syncer = _Syncer(sync_after_s)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"the agent's state folder {folder} cannot be made: {why_not_written(error)}") from error

    def note_start(self, instance: str) -> frozenset[str]:
        """Remember a process that starts on this folder; those that ran here before it, the latest ones.

        They have ended, as one process at a time has the folder. That is worth knowing when a connection of theirs
        reaches the broker late, after ours. Where it cannot be written, only the next start will know less.
        """
        path, earlier = self._folder / _STARTS_NAME, []
        try:
            earlier = path.read_text(errors="replace").split() if path.exists() else []
            kept = [*earlier, instance][-REMEMBERED_STARTS:]
            _write_durably(path, "".join(f"{one}\n" for one in kept).encode())
        except OSError as error:
            log.warning("%s", _complaint("which processes ran here", self._folder, error))
        return frozenset(earlier)

    def keep_carry(self, run_id: str, round_number: int, carry: Carry) -> None:
        """Put what was carried out of a round on the disk.

        Raises:
            StorageError: the disk is full or not writable.
        """
        run = self._folder / run_id
        try:
            run.mkdir(mode=0o700, exist_ok=True)
            _write_durably(_carry_path(run, round_number), encode(carry))
        except OSError as error:
            raise StorageError(_complaint("what its training carries on", run, error)) from error

    def keep(self, update: PendingUpdate) -> None:
        """Put an update where a killed process finds it again; what it carries is on the disk already.

        Raises:
            StorageError: the disk is full or not writable.
        """
        try:
            slot = self._slot_of(update.run_id)
            slot.write(self._label(update), update.blob)
            self._syncer.expect(slot)
        except OSError as error:
            raise StorageError(_complaint("the update", self._folder / update.run_id, error)) from error

    def keep_model(self, run_id: str, model: HeldModel) -> None:
        """Write the model that is held, in place of the one before; not synced, as it can be fetched again.

        Raises:
            StorageError: the disk is full or not writable.
        """
        run = self._folder / run_id
        try:
            run.mkdir(mode=0o700, exist_ok=True)
            _write(run / _MODEL_NAME, segments(model.weights))
        except OSError as error:
            raise StorageError(_complaint("the model", run, error)) from error

    def load_model(self) -> HeldModel | None:
        """The model that was held, whatever it is: its digest will tell the coordinator."""
        runs = [path for path in self._folder.iterdir() if path.is_dir()]
        if not runs:
            return None
        path = max(runs, key=_written_at_ns) / _MODEL_NAME
        try:
            weights = decode(path.read_bytes())[1]
        except FileNotFoundError:
            return None
        except (PayloadError, OSError) as error:
            log.warning("the model kept in %s cannot be used (%s): a whole one is fetched", path, error)
            return None
        return HeldModel(digest(weights), weights)

    def forget_update(self, run_id: str, round_number: int, *, accepted: bool) -> None:
        """The round is closed: the update will not be asked for, and unless it was accepted, its carry neither.

        An accepted update stays where it is until the next one takes its place: the coordinator says which round
        closed with it, also after a restart. One that was not would be sent once more, so it goes.
        """
        self._syncer.forget()
        if not accepted:
            run = self._folder / run_id
            self._close_slot()
            _remove(run / _SLOT_NAME)
            _remove(_carry_path(run, round_number))

    def forget_carries_before(self, run_id: str, round_number: int) -> None:
        """Remove carries of earlier rounds."""
        for number, path in _carries(self._folder / run_id):
            if number < round_number:
                _remove(path)

    def forget_other_runs(self, run_id: str) -> None:
        """Remove everything of other runs."""
        if self._slot is not None and self._slot.run_id != run_id:
            self._close_slot()
        for path in self._folder.iterdir():
            if path.is_dir() and path.name != run_id:
                shutil.rmtree(path, ignore_errors=True)

    def load(self) -> tuple[str, PendingUpdate | None, dict[int, Carry]]:
        """The run, the pending update if there is one, and carries by round; of several runs, the latest written."""
        runs = [path for path in self._folder.iterdir() if path.is_dir()]
        if not runs:
            return "", None, {}
        run = max(runs, key=_written_at_ns)
        carries: dict[int, Carry] = {}
        for number, path in _carries(run):
            try:
                carries[number] = decode(path.read_bytes())[1]
            except (PayloadError, OSError) as error:
                _set_aside(path, error)
        pending = self._load_update(run, carries)
        if pending is not None:
            # It takes effect only once the coordinator says that the update was accepted.
            carries.pop(pending.round_number, None)
        return run.name, pending, carries

    def _load_update(self, run: Path, carries: dict[int, Carry]) -> PendingUpdate | None:
        kept = _read_slot(run / _SLOT_NAME)
        if kept is None:
            return None
        label, blob = kept
        agent_id, run_id, number, base_sha256 = json.loads(label)
        if (agent_id, run_id) != (self._agent_id, run.name):
            log.warning("the update kept in %s is not this agent's of that run: ignored", run)
            return None
        return PendingUpdate(run_id, number, base_sha256, blob, carries.get(number, {}))

    def _label(self, update: PendingUpdate) -> bytes:
        """Whose update it is, and of what: encoded ones do not say it themselves."""
        return json.dumps([self._agent_id, update.run_id, update.round_number, update.base_sha256]).encode()

    def _slot_of(self, run_id: str) -> "_Slot":
        if self._slot is None or self._slot.run_id != run_id:
            self._close_slot()
            run = self._folder / run_id
            run.mkdir(mode=0o700, exist_ok=True)
            self._slot = _Slot(run_id, run / _SLOT_NAME)
        return self._slot

    def _close_slot(self) -> None:
        self._syncer.forget()
        if self._slot is not None:
            self._slot.close()
            self._slot = None


class _Slot:
    """The file whose content is overwritten by every update: a head with lengths and checksum, a label, the blob."""

    def __init__(self, run_id: str, path: Path) -> None:
        self.run_id = run_id
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size

    def write(self, label: bytes, blob: bytes | memoryview) -> None:
        head = _SLOT_HEAD.pack(_SLOT_MAGIC, len(label), len(blob), zlib.crc32(blob, zlib.crc32(label)))
        remaining = [memoryview(head), memoryview(label), memoryview(blob).cast("B")]
        size = sum(map(len, remaining))
        at = 0
        while remaining:
            written = os.pwritev(self._fd, remaining, at)
            at += written
            while remaining and written >= len(remaining[0]):
                written -= len(remaining.pop(0))
            if remaining:
                remaining[0] = remaining[0][written:]
        if size < self._size:
            os.ftruncate(self._fd, size)
        self._size = size

    def sync(self) -> None:
        os.fsync(self._fd)
        # The name, too: an update that nobody finds is none.
        _sync_folder(self.path.parent)

    def close(self) -> None:
        os.close(self._fd)


class _Syncer:
    """Syncs a slot some time after it was written, unless it is forgotten before. Its thread starts when needed."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._lock = threading.Lock()  # held while syncing, so that no slot is closed meanwhile
        self._slot: _Slot | None = None
        self._asked = threading.Event()
        self._thread: threading.Thread | None = None

    def expect(self, slot: _Slot) -> None:
        """Sync this slot unless `forget` comes first."""
        self._slot = slot
        self._asked.set()
        if self._thread is None:
            # A daemon: a process that ends does not wait for it, as the update can be made again.
            self._thread = threading.Thread(target=self._work, name="spool-sync", daemon=True)
            self._thread.start()

    def forget(self) -> None:
        """Nothing needs to be on the disk any more; returns when no sync is going on."""
        with self._lock:
            self._slot = None

    def _work(self) -> None:
        never = threading.Event()
        while True:
            self._asked.wait()
            self._asked.clear()
            never.wait(self._after_s)
            with self._lock:
                slot, self._slot = self._slot, None
                if slot is None:
                    continue
                try:
                    slot.sync()
                except OSError as error:
                    log.warning("cannot sync %s: after a power cut its round is trained again: %s", slot.path, error)


def _complaint(what: str, folder: Path, error: OSError) -> str:
    """What could not be written, why, and what a person can do about it."""
    todo = "" if is_full(error) else "; the agent's user must be able to write there"
    return f"cannot keep {what} in {folder}: {why_not_written(error)}{todo}"


def _read_slot(path: Path) -> tuple[bytes, bytes] | None:
    """The label and the blob in a slot; None when there is none or it was cut off."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("cannot read %s: the round is trained anew: %s", path, error)
        return None
    if len(content) >= _SLOT_HEAD.size:
        magic, label_bytes, blob_bytes, checksum = _SLOT_HEAD.unpack_from(content)
        begin = _SLOT_HEAD.size + label_bytes
        label, blob = content[_SLOT_HEAD.size : begin], content[begin : begin + blob_bytes]
        if magic == _SLOT_MAGIC and len(blob) == blob_bytes and zlib.crc32(blob, zlib.crc32(label)) == checksum:
            return label, blob
    log.warning("%s was being written when the process or the power went: the round is trained anew", path)
    return None


def _carry_path(run: Path, round_number: int) -> Path:
    return run / f"carry-{round_number:07d}.safetensors"


def _carries(run: Path) -> list[tuple[int, Path]]:
    found = []
    for path in sorted(run.iterdir()) if run.is_dir() else []:
        match = _CARRY.match(path.name)
        if match:
            found.append((int(match[1]), path))
    return found


def _written_at_ns(run: Path) -> int:
    """When anything was last written in a run's folder; overwriting a slot does not touch the folder itself."""
    return max(path.stat().st_mtime_ns for path in [run, *run.iterdir()])


def _write_durably(path: Path, content: bytes | memoryview) -> None:
    _write(path, [content], sync=True)
    _sync_folder(path.parent)


def _write(path: Path, parts: Iterable[bytes | memoryview], *, sync: bool = False) -> None:
    """Put a whole file in the place of the one before."""
    scratch = path.with_suffix(".part")
    try:
        fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb", 0) as file:
            for part in parts:
                rest = memoryview(part)
                while rest:
                    rest = rest[file.write(rest) :]
            if sync:
                os.fsync(file.fileno())
        scratch.replace(path)
    except OSError:
        # What was written so far would take the room that the next attempt needs.
        with contextlib.suppress(OSError):
            scratch.unlink()
        raise


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove(path: Path) -> None:
    """Remove a file; when that fails, as on a card that has become read-only, it does no harm but to take room."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("cannot remove %s: %s", path, error.strerror or error)


def _set_aside(path: Path, why: object) -> None:
    log.warning("%s cannot be used (%s): set aside as .damaged", path, why)
    with contextlib.suppress(OSError):
        path.replace(path.with_suffix(".damaged"))
