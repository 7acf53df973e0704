"""The adversary bites: with one safeguard taken out, some seed under 1,000 breaks a promise."""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from coordinator import durable, screening
from coordinator.deliveries import Deliveries
from coordinator.ledger import Ledger
from coordinator.open_round import OpenRound
from edge_agent.events import PendingUpdate
from edge_agent.sending import Sending
from schemas.weights import Array, Weights
from simulation.chaos import run_seed
from simulation.disk import MemoryDisk, SavedRound

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SEEDS = 1000


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def without_deduplication(monkeypatch: pytest.MonkeyPatch) -> None:
    """An update that was counted already is counted again."""
    original = Deliveries._wanted_by

    def wanted_by(self: Deliveries, agent_id: str, run_id: str, round_number: int) -> OpenRound | None:
        wanted = original(self, agent_id, run_id, round_number)
        open_round = self._state.open
        again = open_round is not None and round_number == open_round.number and agent_id in open_round.accepted
        return open_round if again else wanted

    monkeypatch.setattr(Deliveries, "_wanted_by", wanted_by)


def without_the_stale_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """An update of a closed round is taken for one of the open round."""
    original = Deliveries._wanted_by

    def wanted_by(self: Deliveries, agent_id: str, run_id: str, round_number: int) -> OpenRound | None:
        open_round = self._state.open
        if open_round is not None and round_number < open_round.number and open_round.wants(agent_id):
            return open_round
        return original(self, agent_id, run_id, round_number)

    monkeypatch.setattr(Deliveries, "_wanted_by", wanted_by)
    monkeypatch.setattr(screening, "_check_header", lambda *_: None)


def without_the_atomic_rename(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint is written in place: until the work goes on, a crash leaves half of it."""
    save, append = MemoryDisk.save_checkpoint, MemoryDisk.append
    whole: dict[int, SavedRound] = {}

    def save_in_place(
        self: MemoryDisk, round_number: int, weights: Weights, state: Mapping[str, Array], snapshot: dict[str, Any]
    ) -> None:
        save(self, round_number, weights, state, snapshot)
        whole[id(self)] = self.checkpoints[round_number]
        torn = {name: np.where(np.arange(array.size) < 1, array, 0) for name, array in weights.items()}
        self.checkpoints[round_number] = SavedRound(round_number, torn, dict(state), snapshot)

    def append_after(self: MemoryDisk, record: Any, *, durable: bool) -> None:
        saved = whole.get(id(self))
        if record.type == "round" and saved is not None and record.round_number == saved.round_number:
            self.checkpoints[saved.round_number] = saved
        append(self, record, durable=durable)

    monkeypatch.setattr(MemoryDisk, "save_checkpoint", save_in_place)
    monkeypatch.setattr(MemoryDisk, "append", append_after)


def without_sending_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent sends each update once, whatever becomes of it."""
    original = Sending._send
    sent: set[tuple[int, str, int]] = set()

    def send_once(self: Sending, pending: PendingUpdate) -> None:
        key = (id(self), pending.run_id, pending.round_number)
        if key not in sent:
            sent.add(key)
            original(self, pending)

    monkeypatch.setattr(Sending, "_send", send_once)


def without_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work goes on while a checkpoint is on its way to the disk."""
    save = MemoryDisk.save_checkpoint
    on_its_way: dict[int, tuple[Any, ...]] = {}

    def save_later(self: MemoryDisk, *checkpoint: Any) -> None:
        last = on_its_way.pop(id(self), None)
        if last is not None:
            save(self, *last)
        on_its_way[id(self)] = checkpoint

    monkeypatch.setattr(MemoryDisk, "save_checkpoint", save_later)


def without_waiting_for_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are acknowledged once their round is complete: in the announcement that leaves before they are synced."""
    original = Ledger.complete

    def complete(self: Ledger) -> bool:
        is_complete = original(self)
        if is_complete:
            self._state.members.reports_are_durable()
        return is_complete

    monkeypatch.setattr(Ledger, "complete", complete)


def without_a_file_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real files are written in place: a kill leaves half of the first checkpoint, and nothing before it."""
    monkeypatch.setattr(durable, "TEMPORARY_SUFFIX", "")


MUTATIONS = [
    without_deduplication,
    without_the_stale_check,
    without_the_atomic_rename,
    without_sending_again,
    without_waiting_for_the_disk,
    without_waiting_for_the_record,
    without_a_file_beside_it,
]


@pytest.mark.parametrize("take_out", MUTATIONS)
def test_some_seed_fails_when_a_safeguard_is_taken_out(
    take_out: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    take_out(monkeypatch)
    signs = ("BrokenPromiseError", "StandstillError", "StorageError")
    assert any(run_seed(seed).broken.startswith(signs) for seed in range(SEEDS))
