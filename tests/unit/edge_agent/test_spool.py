"""What an agent finds again after it was stopped, killed, or lost its power."""

import threading
from pathlib import Path

import numpy as np
import pytest

from edge_agent.events import Carry, PendingUpdate
from edge_agent.spool import Spool
from schemas import wire
from schemas.messages import BlobHeader
from schemas.weights import encode

AGENT = "room-1"
RUN = "run-1"
BASE = "ab" * 32


def update(round_number: int, carry: Carry | None = None, size: int = 100, sender: str = AGENT) -> PendingUpdate:
    header = BlobHeader(
        kind="update",
        run_id=RUN,
        round_number=round_number,
        sender=sender,
        base_sha256=BASE,
        num_examples=10,
        num_batches=1,
    )
    blob = encode({"w": np.full(size, round_number, np.float32)}, wire.encode(header))
    return PendingUpdate(RUN, round_number, BASE, blob, carry or {})


def momentum(value: float) -> Carry:
    return {"momentum": np.full(3, value, np.float32)}


def slot(folder: Path) -> Path:
    return folder / RUN / "update.slot"


def test_update_is_found_again_when_the_agent_starts_anew(tmp_path: Path) -> None:
    kept = update(3, momentum(1.0))
    Spool(tmp_path, AGENT).keep(kept)

    run_id, pending, carries = Spool(tmp_path, AGENT).load()

    assert run_id == RUN
    assert pending is not None
    assert (pending.round_number, pending.base_sha256, pending.blob) == (3, BASE, kept.blob)
    assert np.array_equal(pending.carry["momentum"], momentum(1.0)["momentum"])
    assert carries == {}


@pytest.mark.parametrize("size", [10, 1000])
def test_newer_update_takes_the_place_of_the_one_before_when_their_sizes_differ(tmp_path: Path, size: int) -> None:
    spool = Spool(tmp_path, AGENT)
    spool.keep(update(1))
    spool.forget_update(RUN, 1, accepted=True)
    spool.keep(update(2, size=size))

    pending = Spool(tmp_path, AGENT).load()[1]

    assert pending is not None
    assert pending.blob == update(2, size=size).blob
    assert [path.name for path in (tmp_path / RUN).iterdir()] == ["update.slot"]


@pytest.mark.parametrize("length", [0, 5, 20, 300])
def test_no_update_is_found_when_writing_it_was_cut_off(tmp_path: Path, length: int) -> None:
    Spool(tmp_path, AGENT).keep(update(1))
    content = slot(tmp_path).read_bytes()
    slot(tmp_path).write_bytes(content[:length])

    assert Spool(tmp_path, AGENT).load()[1] is None


def test_no_update_is_found_when_a_power_cut_left_zeros_in_it(tmp_path: Path) -> None:
    Spool(tmp_path, AGENT).keep(update(1))
    content = slot(tmp_path).read_bytes()
    slot(tmp_path).write_bytes(content[:-64] + bytes(64))

    assert Spool(tmp_path, AGENT).load()[1] is None


def test_update_of_another_agent_is_ignored_when_a_card_was_swapped(tmp_path: Path) -> None:
    Spool(tmp_path, AGENT).keep(update(1, sender="room-2"))

    assert Spool(tmp_path, AGENT).load()[1] is None


def test_update_and_carry_are_gone_when_the_round_closed_without_them(tmp_path: Path) -> None:
    spool = Spool(tmp_path, AGENT)
    spool.keep(update(1, momentum(1.0)))
    spool.forget_update(RUN, 1, accepted=False)

    assert Spool(tmp_path, AGENT).load() == (RUN, None, {})


def test_carries_of_both_rounds_are_there_when_the_power_fails_before_the_newer_update_is_in_its_slot(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path, AGENT)
    spool.keep(update(1, momentum(1.0)))
    spool.forget_update(RUN, 1, accepted=True)
    spool.keep(update(2, momentum(2.0)))
    slot(tmp_path).write_bytes(b"torn")

    _, pending, carries = Spool(tmp_path, AGENT).load()

    assert pending is None
    assert {number: float(carry["momentum"][0]) for number, carry in carries.items()} == {1: 1.0, 2: 2.0}


def test_only_carries_of_earlier_rounds_go_when_they_are_forgotten(tmp_path: Path) -> None:
    spool = Spool(tmp_path, AGENT)
    for number in (1, 2, 3):
        spool.keep(update(number, momentum(number)))
    spool.forget_carries_before(RUN, 2)

    assert sorted(path.name for path in (tmp_path / RUN).glob("carry-*")) == [
        "carry-0000002.safetensors",
        "carry-0000003.safetensors",
    ]


def test_everything_of_other_runs_goes_when_a_new_run_begins(tmp_path: Path) -> None:
    spool = Spool(tmp_path, AGENT)
    spool.keep(update(1, momentum(1.0)))
    spool.forget_other_runs("run-2")

    assert spool.load() == ("", None, {})


def test_carry_is_on_the_disk_when_keep_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(
        "edge_agent.spool.os.fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
    )
    Spool(tmp_path, AGENT, sync_after_s=3600).keep(update(1, momentum(1.0)))

    assert synced == ["carry-0000001.part", RUN]


def test_update_is_synced_when_it_stays_pending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = threading.Event()
    monkeypatch.setattr("edge_agent.spool.os.fsync", lambda _fd: synced.set())
    Spool(tmp_path, AGENT, sync_after_s=0).keep(update(1))

    assert synced.wait(20)
