"""A run's folder as the coordinator's service uses it: records and checkpoints."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from coordinator import checkpoints
from coordinator.checkpoints import KEEP_DEFAULT, Keep
from coordinator.run_folder import Record, RunFolder
from schemas.weights import Array, Weights


class FolderStore:
    """Writes to the folder of one run, whose lock the caller holds.

    Checkpoints beyond what `keep` allows are removed, and then an eighth more: looking at all of them after every
    round would soon take longer than writing one.
    """

    def __init__(self, folder: RunFolder, keep: Keep = KEEP_DEFAULT) -> None:
        self._folder = folder
        self._keep = keep
        self._written_bytes = keep.max_bytes  # what lies there is not known yet: look at once

    def append(self, record: Record, *, durable: bool) -> None:
        """Append a record; `durable` puts it and all before it on disk."""
        self._folder.append(record)
        if durable and record.type != "round":  # a round's record is synced as it is appended
            self._folder.sync()

    def save_checkpoint(
        self, round_number: int, weights: Weights, state: Mapping[str, Array], snapshot: dict[str, Any]
    ) -> None:
        """Write a checkpoint durably."""
        folder = self._folder.checkpoints_path
        path = checkpoints.save(folder, round_number, weights, state, snapshot, keep=None)
        self._written_bytes += path.stat().st_size
        if self._written_bytes > self._keep.max_bytes:
            if checkpoints.total_bytes(folder) > self._keep.max_bytes:
                checkpoints.prune(folder, replace(self._keep, max_bytes=self._keep.max_bytes * 7 // 8))
            self._written_bytes = checkpoints.total_bytes(folder)

    def releases(self) -> list[str]:
        """Agents that the operator lets out of quarantine."""
        return self._folder.releases()

    def forget_release(self, agent_id: str) -> None:
        """It was let out."""
        self._folder.forget_release(agent_id)
