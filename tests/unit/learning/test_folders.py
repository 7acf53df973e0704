"""A room's folder: written privately and in one step, and refused in one sentence when it is no good."""

import gzip
import stat
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from learning.datasets import Examples
from learning.folders import load_folder, write_folder
from schemas.errors import DataError


@pytest.fixture
def examples() -> Examples:
    features = np.arange(3 * 2 * 2, dtype=np.uint8).reshape(3, 1, 2, 2)
    return Examples(features, np.array([4, 0, 4]), num_classes=10, name="kitchen")


def write_idx(path: Path, array: npt.NDArray[np.uint8], compress: bool = False) -> None:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.tobytes()
    path.write_bytes(gzip.compress(content) if compress else content)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_examples_survive_the_folder_exactly(tmp_path: Path, examples: Examples, dtype: type) -> None:
    written = Examples(examples.features.astype(dtype), examples.labels, 10, "kitchen")
    write_folder(tmp_path / "room", written)
    read = load_folder(tmp_path / "room")
    assert read.features.dtype == dtype
    assert (read.features == written.features).all()
    assert read.labels.tolist() == [4, 0, 4]
    assert (read.num_classes, read.name) == (10, "kitchen")


def test_written_file_and_folder_are_the_owners_alone(tmp_path: Path, examples: Examples) -> None:
    file = write_folder(tmp_path / "room", examples)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_old_file_stays_whole_when_writing_the_new_one_fails(
    tmp_path: Path, examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path, examples)

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full_disk)
    with pytest.raises(DataError, match=f"data folder {tmp_path} cannot be written.*No space left"):
        write_folder(tmp_path, examples)
    assert [file.name for file in tmp_path.iterdir()] == ["examples.npz"]
    assert load_folder(tmp_path).num_examples == 3


@pytest.mark.parametrize("compress", [False, True])
def test_idx_pair_is_read_with_a_channel_axis(tmp_path: Path, examples: Examples, compress: bool) -> None:
    suffix = ".gz" if compress else ""
    write_idx(tmp_path / f"room-images-idx3-ubyte{suffix}", examples.features[:, 0], compress)
    write_idx(tmp_path / f"room-labels-idx1-ubyte{suffix}", examples.labels.astype(np.uint8), compress)
    read = load_folder(tmp_path)
    assert (read.features == examples.features).all()
    assert read.labels.tolist() == [4, 0, 4]
    assert read.num_classes == 5


def test_training_pair_is_taken_when_a_test_pair_lies_beside_it(tmp_path: Path) -> None:
    for name, size in (("t10k", 1), ("train", 2)):
        write_idx(tmp_path / f"{name}-images-idx3-ubyte", np.zeros((size, 2, 2), np.uint8))
        write_idx(tmp_path / f"{name}-labels-idx1-ubyte", np.zeros(size, np.uint8))
    assert load_folder(tmp_path).num_examples == 2


def save(folder: Path, **arrays: object) -> None:
    np.savez(folder / "examples.npz", **arrays)  # type: ignore[arg-type]  # wrong on purpose in places


def good_arrays() -> dict[str, object]:
    return {"features": np.zeros((2, 3), np.float32), "labels": np.array([0, 1]), "num_classes": np.int64(2)}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": None}, "Object arrays"),
        ({"labels": np.array([0, 7])}, "labels from 0 to 1, got 0 to 7"),
        ({"features": np.zeros((2, 3))}, "got float64"),
        ({"features": np.zeros((5, 3), np.float32)}, r"got shapes \[5, 3\] and \[2\]"),
        ({"features": np.full((2, 3), np.nan, np.float32)}, "not finite"),
        ({"num_classes": np.array(["many"])}, "truncated, damaged"),
        ({"features": np.array([{}, {}], dtype=object)}, "Object arrays"),  # would need pickle
    ],
)
def test_unusable_arrays_are_one_error_naming_the_folder(
    tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    save(tmp_path, **(good_arrays() | changed))
    with pytest.raises(DataError, match=message) as caught:
        load_folder(tmp_path)
    assert str(caught.value).startswith(f"data folder {tmp_path}: ")
    assert "expected examples.npz (features" in str(caught.value)


def test_missing_array_is_named(tmp_path: Path) -> None:
    arrays = good_arrays()
    del arrays["labels"]
    save(tmp_path, **arrays)
    with pytest.raises(DataError, match=r"has no array.*labels"):
        load_folder(tmp_path)


@pytest.mark.parametrize("keep", [0, 10, -1, -30, 200])
def test_truncated_file_is_one_error(tmp_path: Path, examples: Examples, keep: int) -> None:
    file = write_folder(tmp_path, examples)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"examples\.npz"):
        load_folder(tmp_path)


def test_every_flipped_byte_is_an_error_or_changes_no_example(tmp_path: Path, examples: Examples) -> None:
    file = write_folder(tmp_path, examples)
    original = file.read_bytes()
    for position in range(len(original)):
        damaged = bytearray(original)
        damaged[position] ^= 0xFF
        file.write_bytes(damaged)
        try:
            read = load_folder(tmp_path)
        except DataError:
            continue
        assert (read.features == examples.features).all()
        assert (read.labels == examples.labels).all()


def test_pickle_in_place_of_the_archive_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object))
    (tmp_path / "x.npy").rename(tmp_path / "examples.npz")
    with pytest.raises(DataError):
        load_folder(tmp_path)


def test_plain_array_in_place_of_the_archive_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3))
    (tmp_path / "x.npy").rename(tmp_path / "examples.npz")
    with pytest.raises(DataError, match="data folder"):
        load_folder(tmp_path)


def test_missing_empty_or_half_filled_folder_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file or directory"):
        load_folder(tmp_path / "missing")
    with pytest.raises(DataError, match=r"no examples; expected examples\.npz"):
        load_folder(tmp_path)
    write_idx(tmp_path / "room-images-idx3-ubyte", np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(DataError, match=r"room-labels-idx1-ubyte\.gz cannot be read"):
        load_folder(tmp_path)
    write_idx(tmp_path / "room-labels-idx1-ubyte", np.zeros((2, 1), np.uint8))
    with pytest.raises(DataError, match="room-labels-idx1-ubyte has 2 dimensions, expected 1"):
        load_folder(tmp_path)


def test_folder_that_is_not_there_is_named_once_and_in_words(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_folder(tmp_path / "nowhere")

    text = str(caught.value)
    assert text.startswith(f"data folder {tmp_path / 'nowhere'}: No such file or directory; expected examples.npz")
    assert text.count("nowhere") == 1
