"""A coordinator's disk of real files, with what a crash leaves of them: half a checkpoint, half a line, or less.

Everything is written and read by the code that looks after a run's folder; only what a kill or a power cut does to the
files in that moment is made up here.
"""

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from coordinator import checkpoints
from coordinator.durable import replace_file
from coordinator.run_folder import RunFolder
from coordinator.store import FolderStore
from schemas.weights import Array, Weights
from simulation.disk import MemoryDisk, Record, SavedRound


class _KilledError(BaseException):
    """Ends a write as a kill does: nothing on the way out tidies up."""


class FolderDisk(MemoryDisk):
    """`MemoryDisk` whose content is a run's folder, read anew after every crash.

    Args:
        root: an empty folder.

    Raises:
        StorageError: from `crash`, when the folder cannot be read any more; that is a finding.
    """

    def __init__(self, root: Path, run_id: str) -> None:
        super().__init__()
        self._root, self._run_id = root, run_id
        self._synced_bytes = 0
        RunFolder.create(root, run_id, {})
        self._open()

    def _open(self) -> None:
        self._process = ExitStack()  # holds what ends with the coordinator's process
        self._folder = RunFolder.open(self._root, self._run_id)
        self._process.enter_context(self._folder.lock())
        self._store = FolderStore(self._folder)

    def append(self, record: Record, *, durable: bool) -> None:
        """See `MemoryDisk`."""
        super().append(record, durable=durable)
        self._store.append(record, durable=durable)
        if durable or record.type == "round":
            self._note_synced()

    def save_checkpoint(
        self, round_number: int, weights: Weights, state: Mapping[str, Array], snapshot: dict[str, Any]
    ) -> None:
        """See `MemoryDisk`."""
        super().save_checkpoint(round_number, weights, state, snapshot)
        self._store.save_checkpoint(round_number, weights, state, snapshot)

    def close(self) -> None:
        """Give back what is open."""
        self._process.close()

    def crash(self, rng: random.Random, *, power_cut: bool) -> None:
        """End the process in the middle of a checkpoint and of a line, lose what was not synced, and read the rest."""
        self._half_a_checkpoint(rng)
        self._process.close()
        path = self._folder.record_path
        size = path.stat().st_size
        if power_cut:
            os.truncate(path, rng.randint(self._synced_bytes, size))
        elif size:
            with path.open("ab") as file:
                file.write(path.read_bytes()[: rng.randint(1, 40)].partition(b"\n")[0])
        self._open()
        self._read()

    def _half_a_checkpoint(self, rng: random.Random) -> None:
        whole = rng.randbytes(2000)
        target = self._folder.checkpoints_path / f"round-{self.durable_round + 1:04d}.safetensors"

        def pieces() -> Iterator[bytes]:
            yield whole[: rng.randint(0, len(whole))]
            raise _KilledError

        try:
            replace_file(target, pieces())
        except _KilledError:
            return

    def _read(self) -> None:
        self.records = self._folder.records()
        self._note_synced()  # opened anew, the file is what the disk holds
        folder = self._folder.checkpoints_path
        latest = checkpoints.load_latest(folder)
        intact = [n for n in checkpoints.saved_rounds(folder) if latest is not None and n <= latest.round_number]
        found = [checkpoints.load(folder, number) for number in intact]
        self.checkpoints = {c.round_number: SavedRound(c.round_number, c.weights, c.state, c.snapshot) for c in found}
        self._num_read = 0
        self._reported = {}

    def _note_synced(self) -> None:
        self.num_synced = len(self.records)
        self._synced_bytes = self._folder.record_path.stat().st_size
