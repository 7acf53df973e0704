"""Finds, downloads, verifies and reads MNIST (LeCun, Cortes and Burges: 70,000 handwritten digits of 28x28 bytes).

Each file is verified by the SHA-256 of its uncompressed bytes, as a gzip's own hash differs from mirror to mirror.
The data is never part of this repository.
"""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from learning.idx import parse_idx, read_uncompressed
from schemas.errors import DataError

DATA_VARIABLE = "FEDERATION_DATA"
"""Environment variable that names the data folder."""

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

SHA256_UNCOMPRESSED = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

_WHAT_TO_DO = f"name a folder that holds MNIST (--data or ${DATA_VARIABLE}); without either it is downloaded"
# A machine without a network should learn so soon and go on with the bundled digits.
_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 30


class DatasetUnavailable(DataError):  # noqa: N818 - a finding that the caller may answer with another data set
    """There is no copy of the data set on this machine and it could not be downloaded."""


class Mnist(NamedTuple):
    """The four arrays: images uint8[n, 28, 28] and labels uint8[n], read-only."""

    train_images: npt.NDArray[np.uint8]
    train_labels: npt.NDArray[np.uint8]
    test_images: npt.NDArray[np.uint8]
    test_labels: npt.NDArray[np.uint8]


def find_mnist(data: Path | None = None) -> Path | None:
    """The folder that holds the four files on this machine, or None.

    Looks in `data`, else `$FEDERATION_DATA` (a folder named by the user must hold them); else in `../shared/data`
    beside the checkout, by which several clones share one copy, and in the user's cache. In each, the files may lie
    in the folder itself or in `mnist/` below it. Contents are verified on reading.

    Raises:
        DataError: the folder that the user named does not hold the four files.
    """
    named = data or (Path(value) if (value := os.environ.get(DATA_VARIABLE)) else None)
    if named is not None:
        return _named_folder(named)
    checkout = Path(__file__).resolve().parent.parent
    shared = [checkout.parent / "shared" / "data"] if (checkout / "pyproject.toml").is_file() else []
    return next((found for folder in [*shared, cache_folder()] if (found := _with_files(folder))), None)


def load_mnist(folder: Path) -> Mnist:
    """Read and verify the four files in `folder`, plain or `.gz`.

    Raises:
        DataError: a file is missing, truncated or not the published one; the text names it.
    """
    return Mnist(*(parse_idx(_verified(folder, name), folder / name) for name in SHA256_UNCOMPRESSED))


def download_mnist(cache: Path | None = None, mirrors: Sequence[str] = MIRRORS) -> Path:
    """Download, verify and keep MNIST in the user's cache; returns its folder.

    Each file comes from the first mirror that has the right one. Nothing unverified ever lies under a file's final
    name, and files that are already there are not fetched again.

    Raises:
        DatasetUnavailable: a file could not be had from any mirror, or the cache cannot be written.
    """
    folder = cache_folder() / "mnist" if cache is None else cache
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in SHA256_UNCOMPRESSED:
            if _file_of(folder, name) is None:
                _download_file(name, folder, mirrors)
    except OSError as error:
        raise DatasetUnavailable(f"MNIST cannot be kept in {folder}: {error}: {_WHAT_TO_DO}") from error
    return folder


def cache_folder() -> Path:
    """Where downloads are kept: `$XDG_CACHE_HOME/federation` or `~/.cache/federation`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "federation"


def _named_folder(named: Path) -> Path:
    found = _with_files(named)
    if found is None:
        wanted = ", ".join(SHA256_UNCOMPRESSED)
        raise DataError(f"no MNIST in {named}: expected {wanted} (plain or .gz) in it or in mnist/: {_WHAT_TO_DO}")
    return found


def _with_files(folder: Path) -> Path | None:
    for candidate in (folder, folder / "mnist"):
        if all(_file_of(candidate, name) for name in SHA256_UNCOMPRESSED):
            return candidate
    return None


def _file_of(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _verified(folder: Path, name: str) -> bytes:
    path = _file_of(folder, name)
    if path is None:
        raise DataError(f"no {name} or {name}.gz in {folder}: {_WHAT_TO_DO}")
    content = read_uncompressed(path)
    digest, expected = hashlib.sha256(content).hexdigest(), SHA256_UNCOMPRESSED[name]
    if digest != expected:
        raise DataError(
            f"{path} is damaged or not MNIST: SHA-256 of its uncompressed bytes is {digest}, expected {expected}: "
            "delete it or name another folder"
        )
    return content


def _download_file(name: str, folder: Path, mirrors: Sequence[str]) -> None:
    failures = []
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for mirror in mirrors:
            try:
                _fetch(f"{mirror}{name}.gz", Path(scratch))
                _verified(Path(scratch), name)
            except (OSError, DataError) as error:  # requests' errors are OSErrors
                failures.append(f"{mirror}: {error}")
                continue
            (Path(scratch) / f"{name}.gz").replace(folder / f"{name}.gz")
            return
    tried = "; ".join(failures) or "no mirrors given"
    raise DatasetUnavailable(f"MNIST could not be downloaded: {name} from {tried}: {_WHAT_TO_DO}")


def _fetch(url: str, folder: Path) -> None:
    import pooch  # type: ignore[import-untyped]  # noqa: PLC0415 - agents do not have it

    # No hash for pooch to check: ours is of the uncompressed bytes.
    fetch = pooch.HTTPDownloader(timeout=(_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S))
    fetch(url, str(folder / url.rpartition("/")[2]), None)
