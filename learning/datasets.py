"""Data sets by name, as arrays that are ready for training.

Features are kept as they are stored; bytes are standardised to float32 batch by batch (`learning.tensors`).
Measured on a validation split with federated averaging, the CNN, five agents and five seeds: standardised, MNIST takes
10.0 rounds to 85 % on digit pairs (10 batches a round, rate 0.05) and 3.6 to 95 % IID (40 batches, rate 0.1); scaled to
[0, 1], 17.2 and 4.8 at the best of the rates tried. On the test images, standardised: 9.0 and 3.4 (the
reference results: 8.4 and 3.4). Partitioning is `learning.partition`; a room's own folder is `learning.folders`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from learning.mnist import Mnist, download_mnist, find_mnist, load_mnist
from learning.seeding import permutation
from learning.synthetic import NUM_SEQUENCE_CLASSES, draw_sequences
from schemas.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled examples of one data set; at least one.

    Attributes:
        features: uint8 or float32[num_examples, *shape]; models see bytes standardised, float32 as it is.
        labels: int64[num_examples], each in [0, num_classes).
        num_classes: of the whole data set, whichever of them occur here.
        name: what a person calls the data set, such as "mnist".
    """

    features: npt.NDArray[Any]
    labels: npt.NDArray[np.int64]
    num_classes: int
    name: str

    def __post_init__(self) -> None:
        """Refuse arrays that do not belong together.

        Raises:
            DataError: a dtype, a shape or a label is not as described above.
        """
        if self.features.dtype not in (np.uint8, np.float32) or self.labels.dtype != np.int64:
            raise DataError(
                f"{self.name}: expected uint8 or float32 features and int64 labels, "
                f"got {self.features.dtype} and {self.labels.dtype}"
            )
        if self.features.ndim < 2 or self.labels.ndim != 1 or len(self.features) != len(self.labels):
            raise DataError(
                f"{self.name}: expected features[n, ...] and labels[n], "
                f"got shapes {list(self.features.shape)} and {list(self.labels.shape)}"
            )
        if len(self.labels) == 0:
            raise DataError(f"{self.name}: no examples")
        if self.labels.min() < 0 or self.labels.max() >= self.num_classes:
            raise DataError(
                f"{self.name}: expected labels from 0 to {self.num_classes - 1}, "
                f"got {self.labels.min()} to {self.labels.max()}"
            )

    @property
    def num_examples(self) -> int:
        """How many there are."""
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self.features.shape[1:]

    def take(self, indices: npt.NDArray[np.int64]) -> "Examples":
        """The examples at these indices, copied."""
        return Examples(self.features[indices], self.labels[indices], self.num_classes, self.name)


@dataclass(frozen=True)
class Dataset:
    """Examples to train on and others to judge by."""

    train: Examples
    test: Examples


def load_dataset(name: str, data: Path | None = None) -> Dataset:
    """Load a data set by name; everything random in it is the same each time.

    - `mnist`: 60,000 and 10,000 digits, uint8[n, 1, 28, 28]. See `find_mnist` for where it is looked for (`data`
      first); downloaded when it is nowhere.
    - `digits`: scikit-learn's bundled 1,797 handwritten digits of 8x8, enlarged to uint8[n, 1, 28, 28]: the stand-in
      when MNIST is `DatasetUnavailable`. Say so to the user: results are not comparable.
    - `mnist-rgb32`, `digits-rgb32`: the same padded to 32x32 and repeated to three channels, flat uint8[n, 3072].
    - `sequences`: synthetic (see `learning.synthetic`), uint8[n, 8, 1024] in 8 classes.

    Raises:
        ConfigError: unknown name.
        DatasetUnavailable: MNIST is not on this machine and cannot be downloaded.
        DataError: the data is there but incomplete or damaged.
    """
    if name not in DATASETS:
        raise ConfigError(f"unknown data set {name!r}: expected one of {', '.join(DATASETS)}")
    return DATASETS[name](data)


def split_validation(train: Examples, fraction: float, seed: int) -> tuple[Examples, Examples]:
    """Set a random `fraction` of the training examples aside: (rest, validation), both in their old order.

    Raises:
        ValueError: one of the two parts would be empty.
    """
    num_validation = round(train.num_examples * fraction)
    if not 0 < num_validation < train.num_examples:
        raise ValueError(f"a fraction of {fraction} of {train.num_examples} examples leaves one part empty")
    order = permutation(train.num_examples, "validation", seed)
    return train.take(np.sort(order[num_validation:])), train.take(np.sort(order[:num_validation]))


def _load_mnist(data: Path | None) -> Dataset:
    return _from_mnist(load_mnist(find_mnist(data) or download_mnist()))


def _from_mnist(mnist: Mnist) -> Dataset:
    def examples(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> Examples:
        return Examples(images[:, np.newaxis], labels.astype(np.int64), 10, "mnist")

    return Dataset(examples(mnist.train_images, mnist.train_labels), examples(mnist.test_images, mnist.test_labels))


def _load_digits(data: Path | None) -> Dataset:
    from sklearn.datasets import load_digits  # noqa: PLC0415 - agents do not have it

    images, labels = load_digits(return_X_y=True)
    # 8x8 values from 0 to 16, each enlarged to 3x3, then MNIST's margin: 24 + 2 + 2 = 28.
    scaled = np.rint(images.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    enlarged = np.pad(scaled.repeat(3, axis=2).repeat(3, axis=3), ((0, 0), (0, 0), (2, 2), (2, 2)))
    whole = Examples(enlarged, labels.astype(np.int64), 10, "digits")
    return Dataset(*split_validation(whole, 1 / 6, seed=0))


def _load_sequences(data: Path | None) -> Dataset:
    def examples(num_examples: int, part: str) -> Examples:
        return Examples(*draw_sequences(num_examples, part), NUM_SEQUENCE_CLASSES, "sequences")

    return Dataset(examples(4000, "train"), examples(1000, "test"))


def _as_flat_rgb32(dataset: Dataset) -> Dataset:
    def convert(examples: Examples) -> Examples:
        padded = np.pad(examples.features, ((0, 0), (0, 0), (2, 2), (2, 2)))
        flat = padded.repeat(3, axis=1).reshape(examples.num_examples, 3 * 32 * 32)
        return Examples(flat, examples.labels, examples.num_classes, f"{examples.name}-rgb32")

    return Dataset(convert(dataset.train), convert(dataset.test))


DATASETS: dict[str, Callable[[Path | None], Dataset]] = {
    "mnist": _load_mnist,
    "digits": _load_digits,
    "mnist-rgb32": lambda data: _as_flat_rgb32(_load_mnist(data)),
    "digits-rgb32": lambda data: _as_flat_rgb32(_load_digits(data)),
    "sequences": _load_sequences,
}
