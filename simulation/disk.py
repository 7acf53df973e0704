"""A coordinator's disk in memory, with what a power cut does to it: unsynced records are lost."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.errors import StorageError
from schemas.records import DeviceRecord, RoundRecord, RunEvent
from schemas.weights import Array, Weights

Record = RoundRecord | DeviceRecord | RunEvent


@dataclass(frozen=True, slots=True)
class SavedRound:
    """A checkpoint."""

    round_number: int
    weights: dict[str, Array]
    state: dict[str, Array]
    snapshot: dict[str, Any]


@dataclass(slots=True)
class MemoryDisk:
    """Keeps the same promises as the run's folder: `coordinator.service.Store`.

    Attributes:
        records: all that were appended; the first `num_synced` of them survive a power cut.
        checkpoints: by round, whole ones only, as they are written to another file and renamed.
        full: nothing can be written; `full_for_rounds`: no record of a round can, though its checkpoint could.
    """

    records: list[Record] = field(default_factory=list)
    checkpoints: dict[int, SavedRound] = field(default_factory=dict)
    num_synced: int = 0
    full: bool = False
    full_for_rounds: bool = False
    _num_read: int = 0
    _reported: dict[str, set[int]] = field(default_factory=dict)

    def append(self, record: Record, *, durable: bool) -> None:
        """Append a record; `durable` puts it and all before it on disk."""
        if self.full or (self.full_for_rounds and isinstance(record, RoundRecord)):
            raise StorageError("the simulated disk is full")
        self.records.append(record)
        if durable:
            self.num_synced = len(self.records)

    def save_checkpoint(
        self, round_number: int, weights: Weights, state: Mapping[str, Array], snapshot: dict[str, Any]
    ) -> None:
        """Write a checkpoint durably; records before it are not synced by it."""
        if self.full:
            raise StorageError("the simulated disk is full")
        self.checkpoints[round_number] = SavedRound(round_number, dict(weights), dict(state), snapshot)

    def releases(self) -> list[str]:
        """Nobody is let out of quarantine."""
        return []

    def forget_release(self, agent_id: str) -> None:
        """See `releases`."""

    def crash(self, rng: random.Random, *, power_cut: bool) -> None:
        """The process ends; with the power, some of what was not synced is lost."""
        if power_cut:
            kept = rng.randint(self.num_synced, len(self.records))
            del self.records[kept:]
            self.num_synced = kept

    def close(self) -> None:
        """Nothing is open."""

    def latest(self) -> SavedRound | None:
        """The newest checkpoint."""
        return self.checkpoints[max(self.checkpoints)] if self.checkpoints else None

    @property
    def durable_round(self) -> int:
        """The last round that is closed for good; 0 when none is."""
        return max(self.checkpoints, default=0)

    def rounds(self) -> dict[int, RoundRecord]:
        """The last record of each round."""
        return {record.round_number: record for record in self.records if isinstance(record, RoundRecord)}

    def reported(self, agent_id: str) -> set[int]:
        """The rounds whose report from an agent would survive a power cut now."""
        for record in self.records[self._num_read : self.num_synced]:
            if isinstance(record, DeviceRecord):
                self._reported.setdefault(record.agent_id, set()).add(record.round_number)
        self._num_read = self.num_synced
        return self._reported.get(agent_id, set())
