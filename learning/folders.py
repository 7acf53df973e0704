"""A room's data folder: what an agent trains on, written beforehand and read at its start.

The room's data never leaves its device; nothing here knows of a network.
"""

import os
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from learning.datasets import Examples
from learning.idx import parse_idx, read_uncompressed
from schemas.errors import DataError, why_not_written

FILE_NAME = "examples.npz"

_EXPECTED = (
    f"expected {FILE_NAME} (features uint8 or float32[n, ...], labels int64[n], num_classes, as `coordinator "
    "partition` writes it) or a pair of IDX files NAME-images-idx3-ubyte and NAME-labels-idx1-ubyte, plain or .gz"
)

# All that NumPy and zipfile raise on damaged archives; RuntimeError covers unknown versions and encryption.
_DAMAGE = (ValueError, TypeError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)


def write_folder(path: Path, examples: Examples) -> Path:
    """Write the examples to `path`/examples.npz and return that file; replaces an older one in one step.

    The file is readable by its owner alone (0600), as is the folder if it is made here.

    Raises:
        DataError: the folder or file cannot be written.
    """
    target = path / FILE_NAME
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, scratch = tempfile.mkstemp(dir=path, prefix=f".{FILE_NAME}.")  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                _save(file, examples)
                file.flush()
                os.fsync(file.fileno())
            Path(scratch).replace(target)
        except BaseException:
            Path(scratch).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise DataError(f"data folder {path} cannot be written: {why_not_written(error)}") from error
    return target


def load_folder(path: Path) -> Examples:
    """The examples in the folder; when it holds both kinds of file, examples.npz wins.

    Of several IDX pairs, `train-` is taken. IDX images get a channel axis (uint8[n, 1, rows, columns]) and
    `num_classes` is the largest label plus one, as IDX files do not say.

    Raises:
        DataError: the folder is missing, unreadable or holds no usable examples; the text says what was expected.
    """
    try:
        if (path / FILE_NAME).is_file():
            return _load_npz(path / FILE_NAME)
        return _load_idx(path)
    except OSError as error:
        raise DataError(f"data folder {path}: {error.strerror or error}; {_EXPECTED}") from error
    except DataError as error:
        raise DataError(f"data folder {path}: {error}; {_EXPECTED}") from error


def _save(file: Any, examples: Examples) -> None:
    np.savez_compressed(
        file,
        features=examples.features,
        labels=examples.labels,
        num_classes=np.int64(examples.num_classes),
        name=np.array(examples.name),
    )


def _load_npz(path: Path) -> Examples:
    try:
        # Opened here, as np.load leaves the file open when the archive is damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            # Read once each: every access reads and uncompresses the array anew.
            features, labels = arrays["features"], arrays["labels"]
            num_classes, name = (
                int(arrays["num_classes"]),
                str(arrays["name"]) if "name" in arrays else path.parent.name,
            )
    except KeyError as error:
        raise DataError(f"{path.name} has no array {error}") from error
    except _DAMAGE as error:
        raise DataError(f"{path.name} is truncated, damaged or too large ({error})") from error
    if features.dtype == np.float32 and not np.isfinite(features).all():
        raise DataError(f"{path.name} holds features that are not finite")
    return Examples(features, labels, num_classes, name)


def _load_idx(path: Path) -> Examples:
    names = sorted({file.name.removesuffix(".gz") for file in path.iterdir() if "-images-idx3-ubyte" in file.name})
    if not names:
        raise DataError("no examples")
    images_name = "train-images-idx3-ubyte" if "train-images-idx3-ubyte" in names else names[0]
    images = _read_idx(path, images_name, dimensions=3)
    labels = _read_idx(path, images_name.replace("-images-idx3-", "-labels-idx1-"), dimensions=1)
    num_classes = int(labels.max(initial=0)) + 1
    return Examples(images[:, np.newaxis], labels.astype(np.int64), num_classes, path.name)


def _read_idx(path: Path, name: str, dimensions: int) -> npt.NDArray[np.uint8]:
    file = path / name if (path / name).is_file() else path / f"{name}.gz"
    array = parse_idx(read_uncompressed(file), file)
    if array.ndim != dimensions:
        raise DataError(f"{file.name} has {array.ndim} dimensions, expected {dimensions}")
    return array
