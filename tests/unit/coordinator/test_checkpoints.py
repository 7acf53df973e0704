"""Checkpoints: what is saved comes back, and whatever happens meanwhile, an intact one is there."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from coordinator import checkpoints
from coordinator.checkpoints import DamagedCheckpointError, Keep
from coordinator.durable import TEMPORARY_SUFFIX
from schemas.errors import StorageError
from schemas.weights import Array, digest
from tests.kill_points import survive_every_kill
from tests.unit.coordinator.disk_limit import no_file_beyond

MIB = 1024 * 1024
SNAPSHOT: dict[str, Any] = {"members": {"pi-1": [3, [1, 2]]}, "deadline_s": 12.25, "name": "café"}


def model(value: float = 1.0) -> dict[str, Array]:
    return {
        "z.weight": np.full((3, 2), value, np.float32),
        "a.bias": np.array([0.5, -0.0, value], np.float32),
        "counter": np.array(7, np.int64),
        "empty": np.zeros((0, 4), np.float32),
    }


def save(folder: Path, round_number: int, keep: Keep = checkpoints.KEEP_DEFAULT) -> Path:
    state = {"momentum": np.full(3, round_number, np.float64)}
    return checkpoints.save(folder, round_number, model(round_number), state, {"at": round_number}, keep=keep)


def flip_bit(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_checkpoint_comes_back_equal_when_loaded(tmp_path: Path) -> None:
    state = {"momentum": np.arange(4, dtype=np.float64)}
    path = checkpoints.save(tmp_path, 7, model(), state, SNAPSHOT)

    loaded = checkpoints.load(tmp_path, 7)

    assert path.name == "round-0007.safetensors"
    assert digest(loaded.weights) == digest(model())
    assert digest(loaded.state) == digest(state)
    assert loaded.snapshot == SNAPSHOT
    assert (loaded.round_number, loaded.damaged) == (7, ())


def test_order_of_tensors_is_kept_when_loaded(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, 0, model(), {}, {})

    assert list(checkpoints.load(tmp_path, 0).weights) == list(model())


def test_loaded_arrays_are_writable_when_training_goes_on(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, 0, model(), {}, {})

    assert all(array.flags.writeable for array in checkpoints.load(tmp_path, 0).weights.values())


def test_array_comes_back_equal_when_it_is_not_contiguous(tmp_path: Path) -> None:
    transposed = np.arange(12, dtype=np.float32).reshape(3, 4).T
    checkpoints.save(tmp_path, 1, {"w": transposed, "v": transposed[::2, ::-1]}, {}, {})

    loaded = checkpoints.load(tmp_path, 1).weights

    np.testing.assert_array_equal(loaded["w"], transposed)
    np.testing.assert_array_equal(loaded["v"], transposed[::2, ::-1])


def test_same_bytes_are_written_when_content_is_the_same(tmp_path: Path) -> None:
    assert save(tmp_path / "a", 3).read_bytes() == save(tmp_path / "b", 3).read_bytes()


def test_any_safetensors_tool_opens_it_when_saved(tmp_path: Path) -> None:
    path = save(tmp_path, 3)

    tensors = load_file(path)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()

    np.testing.assert_array_equal(tensors["weights.z.weight"], model(3)["z.weight"])
    np.testing.assert_array_equal(tensors["state.momentum"], [3, 3, 3])
    assert json.loads(metadata["snapshot"]) == {"at": 3}


def test_newest_is_loaded_when_there_are_several(tmp_path: Path) -> None:
    for round_number in (0, 9, 10_000, 2):
        save(tmp_path, round_number)

    latest = checkpoints.load_latest(tmp_path)

    assert latest is not None
    assert latest.round_number == 10_000
    assert checkpoints.saved_rounds(tmp_path) == [0, 2, 9, 10_000]


def test_nothing_is_loaded_when_nothing_was_saved(tmp_path: Path) -> None:
    assert checkpoints.load_latest(tmp_path) is None
    assert checkpoints.load_latest(tmp_path / "missing") is None


def test_missing_round_is_an_error_when_asked_for(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"there is no checkpoint .*round-0004\.safetensors"):
        checkpoints.load(tmp_path, 4)


def test_round_is_replaced_when_saved_again(tmp_path: Path) -> None:
    save(tmp_path, 1)
    checkpoints.save(tmp_path, 1, model(5), {}, {"again": True})

    assert checkpoints.load(tmp_path, 1).snapshot == {"again": True}


def test_one_before_is_loaded_and_newest_named_when_newest_is_damaged(tmp_path: Path) -> None:
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    flip_bit(path, -1)

    latest = checkpoints.load_latest(tmp_path)

    assert latest is not None
    assert latest.round_number == 1
    assert latest.damaged == (path,)


def test_any_flipped_bit_is_noticed_when_loaded(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    content = path.read_bytes()

    for at in range(0, len(content), 7):
        flip_bit(path, at)
        with pytest.raises(DamagedCheckpointError, match=r"round-0001\.safetensors is damaged"):
            checkpoints.load(tmp_path, 1)
        path.write_bytes(content)


@pytest.mark.parametrize("kept_bytes", [0, 5, 100, -1])
def test_torn_file_is_noticed_when_loaded(tmp_path: Path, kept_bytes: int) -> None:
    path = save(tmp_path, 1)
    path.write_bytes(path.read_bytes()[:kept_bytes])

    with pytest.raises(DamagedCheckpointError):
        checkpoints.load(tmp_path, 1)


def test_checkpoint_is_refused_when_it_was_renamed_to_another_round(tmp_path: Path) -> None:
    save(tmp_path, 1).rename(tmp_path / "round-0002.safetensors")

    with pytest.raises(DamagedCheckpointError):
        checkpoints.load(tmp_path, 2)


def test_foreign_safetensors_file_is_refused_when_it_lies_there(tmp_path: Path) -> None:
    save(tmp_path, 1)
    exported = checkpoints.export(tmp_path, 1, "run-1", tmp_path / "round-0002.safetensors")

    latest = checkpoints.load_latest(tmp_path)

    assert latest is not None
    assert latest.damaged == (exported,)


def test_run_cannot_go_on_when_every_checkpoint_is_damaged(tmp_path: Path) -> None:
    for round_number in (1, 2):
        save(tmp_path, round_number).write_bytes(b"")

    with pytest.raises(StorageError, match="every checkpoint"):
        checkpoints.load_latest(tmp_path)


def test_no_older_one_is_taken_when_newest_cannot_be_read(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / "round-0002.safetensors").symlink_to(tmp_path / "gone")

    with pytest.raises(StorageError, match=r"round-0002"):
        checkpoints.load_latest(tmp_path)


def test_old_or_new_checkpoint_is_intact_when_save_is_killed(tmp_path: Path) -> None:
    rounds_found = []

    def check() -> None:
        latest = checkpoints.load_latest(tmp_path)
        assert latest is not None
        assert latest.damaged == ()
        assert digest(latest.weights) == digest(model(latest.round_number))
        rounds_found.append(latest.round_number)
        (tmp_path / "round-0002.safetensors").unlink(missing_ok=True)

    save(tmp_path, 1)
    deaths = survive_every_kill(lambda: save(tmp_path, 2), check)

    assert deaths > 8
    assert set(rounds_found) == {1, 2}
    assert sorted(rounds_found) == rounds_found


def test_repeated_round_is_intact_when_saving_it_again_is_killed(tmp_path: Path) -> None:
    def check() -> None:
        assert checkpoints.load(tmp_path, 1).round_number == 1

    save(tmp_path, 1)
    survive_every_kill(lambda: save(tmp_path, 1), check)


def test_leftovers_are_gone_when_save_succeeds_after_a_kill(tmp_path: Path) -> None:
    leftover = tmp_path / ("round-0002.safetensors" + TEMPORARY_SUFFIX)
    leftover.write_bytes(b"x" * MIB)

    save(tmp_path, 2)

    assert [path.name for path in tmp_path.iterdir()] == ["round-0002.safetensors"]


def test_earlier_checkpoint_stays_when_disk_is_full(tmp_path: Path) -> None:
    save(tmp_path, 1)
    large = {"w": np.zeros(MIB // 2, np.float32)}

    with no_file_beyond(MIB), pytest.raises(StorageError, match=r"cannot write .*round-0002\.safetensors: .+"):
        checkpoints.save(tmp_path, 2, large, {}, {})

    assert [path.name for path in tmp_path.iterdir()] == ["round-0001.safetensors"]
    assert checkpoints.load(tmp_path, 1).round_number == 1


def test_save_names_the_folder_when_it_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError, match="cannot make the folder"):
        save(tmp_path / "file" / "checkpoints", 1)


def test_memory_stays_small_when_model_is_large(tmp_path: Path) -> None:
    weights = {f"layer.{n}": np.zeros(MIB, np.float32) for n in range(8)}
    tracemalloc.start()
    try:
        checkpoints.save(tmp_path, 1, weights, {}, {})
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak_bytes < MIB


def test_all_checkpoints_stay_when_they_are_small(tmp_path: Path) -> None:
    for round_number in range(20):
        save(tmp_path, round_number)

    assert checkpoints.saved_rounds(tmp_path) == list(range(20))


def test_oldest_are_removed_when_they_take_more_than_allowed(tmp_path: Path) -> None:
    size_bytes = save(tmp_path, 1).stat().st_size
    for round_number in range(2, 8):
        save(tmp_path, round_number, keep=Keep(max_bytes=4 * size_bytes, last=2))

    assert checkpoints.saved_rounds(tmp_path) == [4, 5, 6, 7]


def test_last_ones_stay_when_even_they_take_more_than_allowed(tmp_path: Path) -> None:
    for round_number in range(1, 6):
        save(tmp_path, round_number, keep=Keep(max_bytes=0, last=2))

    assert checkpoints.saved_rounds(tmp_path) == [4, 5]


def test_keeping_nothing_is_refused_when_asked_for() -> None:
    with pytest.raises(ValueError, match="last"):
        Keep(last=0)


def test_export_has_plain_names_and_float32_when_opened_elsewhere(tmp_path: Path) -> None:
    weights = model() | {"half": np.ones(2, np.float16), "double": np.ones(2, np.float64)}
    checkpoints.save(tmp_path / "checkpoints", 4, weights, {"m": np.ones(2)}, SNAPSHOT)

    path = checkpoints.export(tmp_path / "checkpoints", 4, "run-1", tmp_path / "model.safetensors")

    tensors = load_file(path)
    assert tensors.keys() == weights.keys()
    assert {name: tensors[name].dtype.name for name in tensors} == {
        **dict.fromkeys(weights, "float32"),
        "counter": "int64",
    }
    with safe_open(path, framework="numpy") as file:
        assert file.metadata() == {"run_id": "run-1", "round_number": "4", "sha256": digest(weights)}


def test_export_is_refused_when_round_was_not_kept(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="there is no checkpoint"):
        checkpoints.export(tmp_path, 4, "run-1", tmp_path / "model.safetensors")
