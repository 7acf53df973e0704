"""A run's folder as the coordinator's service uses it: records and checkpoints."""

from collections.abc import Mapping
from typing import Any

from coordinator import checkpoints
from coordinator.run_folder import Record, RunFolder
from schemas.weights import Array, Weights


class FolderStore:
    """Writes to the folder of one run, whose lock the caller holds."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def append(self, record: Record, *, durable: bool) -> None:
        """Append a record; `durable` puts it and all before it on disk."""
        self._folder.append(record, durable=durable)

    def save_checkpoint(
        self, round_number: int, weights: Weights, state: Mapping[str, Array], snapshot: dict[str, Any]
    ) -> None:
        """Write a checkpoint durably."""
        # The snapshot lists reports as recorded: their lines must not be lost when it survives.
        self._folder.sync()
        checkpoints.save(self._folder.checkpoints_path, round_number, weights, state, snapshot)
