"""Where MNIST is looked for, and that nothing but MNIST is taken for it. Downloads are in tests/integration."""

import gzip
from pathlib import Path

import pytest

import learning.mnist
from learning.datasets import Dataset
from learning.mnist import SHA256_UNCOMPRESSED, find_mnist, load_mnist
from schemas.errors import DataError

NAMES = list(SHA256_UNCOMPRESSED)


@pytest.fixture
def nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any MNIST: a checkout, an empty cache and no variable. Returns the folder of all."""
    monkeypatch.delenv("FEDERATION_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = tmp_path / "checkout" / "learning" / "mnist.py"
    source.parent.mkdir(parents=True)
    (tmp_path / "checkout" / "pyproject.toml").touch()
    monkeypatch.setattr(learning.mnist, "__file__", str(source))
    return tmp_path


def fill(folder: Path, suffix: str = "") -> Path:
    folder.mkdir(parents=True)
    for name in NAMES:
        (folder / f"{name}{suffix}").write_bytes(b"not verified before it is read")
    return folder


def test_nothing_is_found_when_there_is_nothing(nothing_here: Path) -> None:
    assert nothing_here.is_dir()
    assert find_mnist() is None


def test_places_are_searched_in_the_documented_order(nothing_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = fill(nothing_here / "cache" / "federation" / "mnist", ".gz")
    assert find_mnist() == cached
    shared = fill(nothing_here / "shared" / "data" / "mnist")
    assert find_mnist() == shared
    named_by_variable = fill(nothing_here / "variable")
    monkeypatch.setenv("FEDERATION_DATA", str(named_by_variable))
    assert find_mnist() == named_by_variable
    named = fill(nothing_here / "named" / "mnist", ".gz").parent
    assert find_mnist(named) == named / "mnist"


def test_shared_folder_counts_only_beside_a_checkout(nothing_here: Path) -> None:
    fill(nothing_here / "shared" / "data" / "mnist")
    (nothing_here / "checkout" / "pyproject.toml").unlink()
    assert find_mnist() is None


def test_folder_named_by_the_user_without_data_is_an_error_not_a_reason_to_look_elsewhere(
    nothing_here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(nothing_here / "shared" / "data" / "mnist")
    empty = nothing_here / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"no MNIST in .*empty: expected train-images-idx3-ubyte.*--data"):
        find_mnist(empty)
    monkeypatch.setenv("FEDERATION_DATA", str(nothing_here / "missing"))
    with pytest.raises(DataError, match=r"no MNIST in .*missing"):
        find_mnist()


def test_folder_with_three_of_four_files_holds_no_mnist(nothing_here: Path) -> None:
    folder = fill(nothing_here / "named")
    (folder / NAMES[2]).unlink()
    with pytest.raises(DataError, match="no MNIST in"):
        find_mnist(folder)
    with pytest.raises(DataError):
        load_mnist(folder)


def test_file_with_another_hash_is_refused_naming_file_and_both_hashes(tmp_path: Path) -> None:
    folder = fill(tmp_path / "fake", ".gz")
    with pytest.raises(DataError) as caught:
        load_mnist(folder)
    assert f"{folder}/train-images-idx3-ubyte.gz" in str(caught.value)
    assert f"expected {SHA256_UNCOMPRESSED['train-images-idx3-ubyte']}" in str(caught.value)


def test_plain_and_compressed_files_give_the_same_mnist(tmp_path: Path, mnist: Dataset) -> None:
    source = find_mnist()
    assert source is not None
    for name in NAMES:
        content = (source / f"{name}.gz").read_bytes() if (source / f"{name}.gz").is_file() else None
        plain = (source / name).read_bytes() if content is None else gzip.decompress(content)
        (tmp_path / name).write_bytes(plain)
    loaded = load_mnist(tmp_path)
    assert (loaded.train_images == mnist.train.features[:, 0]).all()
    assert (loaded.test_labels == mnist.test.labels).all()
