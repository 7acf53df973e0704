"""What an agent finds again after it was stopped, killed, or lost its power."""

import errno
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from edge_agent.events import Carry, HeldModel, PendingUpdate
from edge_agent.spool import REMEMBERED_STARTS, Spool
from schemas import wire
from schemas.errors import StorageError
from schemas.messages import BlobHeader
from schemas.weights import digest, encode
from tests.kill_points import survive_every_kill

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


def keep(spool: Spool, kept: PendingUpdate) -> None:
    """As the agent does it: first what is carried, then the update."""
    if kept.carry:
        spool.keep_carry(kept.run_id, kept.round_number, kept.carry)
    spool.keep(kept)


def momentum(value: float) -> Carry:
    return {"momentum": np.full(3, value, np.float32)}


def slot(folder: Path) -> Path:
    return folder / RUN / "update.slot"


def test_update_is_found_again_when_the_agent_starts_anew(tmp_path: Path) -> None:
    kept = update(3, momentum(1.0))
    keep(Spool(tmp_path, AGENT), kept)

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
    Spool(tmp_path, "room-2").keep(update(1, sender="room-2"))

    assert Spool(tmp_path, AGENT).load()[1] is None


def test_update_and_carry_are_gone_when_the_round_closed_without_them(tmp_path: Path) -> None:
    spool = Spool(tmp_path, AGENT)
    keep(spool, update(1, momentum(1.0)))
    spool.forget_update(RUN, 1, accepted=False)

    assert Spool(tmp_path, AGENT).load() == (RUN, None, {})


def test_carries_of_both_rounds_are_there_when_the_power_fails_before_the_newer_update_is_in_its_slot(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path, AGENT)
    keep(spool, update(1, momentum(1.0)))
    spool.forget_update(RUN, 1, accepted=True)
    keep(spool, update(2, momentum(2.0)))
    slot(tmp_path).write_bytes(b"torn")

    _, pending, carries = Spool(tmp_path, AGENT).load()

    assert pending is None
    assert {number: float(carry["momentum"][0]) for number, carry in carries.items()} == {1: 1.0, 2: 2.0}


def test_only_carries_of_earlier_rounds_go_when_they_are_forgotten(tmp_path: Path) -> None:
    spool = Spool(tmp_path, AGENT)
    for number in (1, 2, 3):
        keep(spool, update(number, momentum(number)))
    spool.forget_carries_before(RUN, 2)

    assert sorted(path.name for path in (tmp_path / RUN).glob("carry-*")) == [
        "carry-0000002.safetensors",
        "carry-0000003.safetensors",
    ]


def test_everything_of_other_runs_goes_when_a_new_run_begins(tmp_path: Path) -> None:
    spool = Spool(tmp_path, AGENT)
    keep(spool, update(1, momentum(1.0)))
    spool.forget_other_runs("run-2")

    assert spool.load() == ("", None, {})


def test_carry_is_on_the_disk_when_keep_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(
        "edge_agent.spool.os.fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
    )
    keep(Spool(tmp_path, AGENT, sync_after_s=3600), update(1, momentum(1.0)))

    assert synced == ["carry-0000001.part", RUN]


def test_update_is_synced_when_it_stays_pending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = threading.Event()
    monkeypatch.setattr("edge_agent.spool.os.fsync", lambda _fd: synced.set())
    Spool(tmp_path, AGENT, sync_after_s=0).keep(update(1))

    assert synced.wait(20)


def test_every_kill_leaves_an_update_that_is_whole_or_none_and_the_carries_of_both_rounds(tmp_path: Path) -> None:
    first = Spool(tmp_path, AGENT, sync_after_s=3600)
    keep(first, update(1, momentum(1.0)))
    whole = {1: update(1).blob, 2: update(2).blob}
    seen = set()

    def check() -> None:
        _, pending, carries = Spool(tmp_path, AGENT).load()
        if pending is not None:
            assert pending.blob == whole[pending.round_number]
            # An update of the second round never is there without its carry.
            assert np.array_equal(pending.carry["momentum"], momentum(pending.round_number)["momentum"])
            carries[pending.round_number] = pending.carry
        assert float(carries[1]["momentum"][0]) == 1.0
        seen.add((pending.round_number if pending else 0, len(carries)))

    def keep_second() -> None:
        keep(Spool(tmp_path, AGENT, sync_after_s=3600), update(2, momentum(2.0)))

    deaths = survive_every_kill(keep_second, check)

    assert deaths >= 5
    # Before the carry, after it, in the middle of the slot, and after it.
    assert {(1, 1), (1, 2), (0, 2), (2, 2)} <= seen


def test_each_start_knows_those_before_it_and_the_list_stays_short(tmp_path: Path) -> None:
    known = [Spool(tmp_path, AGENT).note_start(f"start-{number}") for number in range(REMEMBERED_STARTS + 2)]

    assert known[0] == frozenset()
    assert known[1] == {"start-0"}
    assert len(known[-1]) == REMEMBERED_STARTS
    assert known[-1] == {f"start-{number}" for number in range(1, REMEMBERED_STARTS + 1)}


def test_start_goes_on_with_what_it_knows_when_it_cannot_be_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Spool(tmp_path, AGENT).note_start("first")

    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert Spool(tmp_path, AGENT).note_start("second") == {"first"}
    assert "make room on this disk" in caplog.text
    monkeypatch.undo()
    assert Spool(tmp_path, AGENT).note_start("third") == {"first"}


def test_files_and_folders_are_readable_by_the_agent_alone(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    keep(Spool(folder, AGENT), update(1, momentum(1.0)))

    modes = {path.name: path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*"))}

    assert modes == {"state": 0o700, RUN: 0o700, "update.slot": 0o600, "carry-0000001.safetensors": 0o600}


@pytest.mark.parametrize("damage", [b"", b"not safetensors at all"])
def test_damaged_carry_is_set_aside_and_the_rest_is_used(tmp_path: Path, damage: bytes) -> None:
    spool = Spool(tmp_path, AGENT)
    for number in (1, 2):
        keep(spool, update(number, momentum(number)))
    (tmp_path / RUN / "carry-0000001.safetensors").write_bytes(damage)

    run_id, pending, carries = Spool(tmp_path, AGENT).load()

    assert (run_id, carries) == (RUN, {})
    assert pending is not None
    assert (tmp_path / RUN / "carry-0000001.damaged").read_bytes() == damage


def test_files_that_are_none_of_ours_stay_and_are_ignored(tmp_path: Path) -> None:
    Spool(tmp_path, AGENT).keep(update(1))
    (tmp_path / RUN / "carry-x.safetensors").write_bytes(b"?")
    (tmp_path / "notes.txt").write_text("of the operator")

    spool = Spool(tmp_path, AGENT)
    spool.forget_other_runs(RUN)

    assert spool.load()[0] == RUN
    assert (tmp_path / "notes.txt").exists()


def test_update_cannot_be_kept_when_the_folder_is_gone(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "state", AGENT)
    (tmp_path / "state").rmdir()

    with pytest.raises(StorageError, match="cannot keep the update"):
        spool.keep(update(1))


def test_state_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")

    with pytest.raises(StorageError, match="state"):
        Spool(tmp_path / "state", AGENT)


def test_model_that_is_held_is_found_again_and_replaced_by_the_next_one(tmp_path: Path) -> None:
    spool = Spool(tmp_path, AGENT)
    assert spool.load_model() is None
    for value in (1, 2):
        weights = {"w": np.full(3, value, np.float32)}
        spool.keep_model(RUN, HeldModel(digest(weights), weights))

    held = Spool(tmp_path, AGENT).load_model()

    assert held is not None
    assert held.weights["w"].tolist() == [2, 2, 2]
    assert held.sha256 == digest(held.weights)


def test_model_that_is_held_is_fetched_again_when_its_file_is_damaged(tmp_path: Path) -> None:
    spool = Spool(tmp_path, AGENT)
    spool.keep_model(RUN, HeldModel("0" * 64, {"w": np.ones(3, np.float32)}))
    path = tmp_path / RUN / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-5])

    assert Spool(tmp_path, AGENT).load_model() is None


def test_model_that_is_held_goes_with_its_run(tmp_path: Path) -> None:
    spool = Spool(tmp_path, AGENT)
    spool.keep_model(RUN, HeldModel("0" * 64, {"w": np.ones(3, np.float32)}))
    spool.forget_other_runs("run-2")

    assert spool.load_model() is None
