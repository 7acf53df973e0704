"""Data sets by name: what they hold, and what is refused."""

import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest

from learning.datasets import Dataset, Examples, load_dataset, split_validation
from schemas.errors import ConfigError, DataError


def test_mnist_is_the_published_one(mnist: Dataset) -> None:
    assert mnist.train.features.shape == (60_000, 1, 28, 28)
    assert mnist.test.features.shape == (10_000, 1, 28, 28)
    assert mnist.train.features.dtype == np.uint8
    assert mnist.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert mnist.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert mnist.train.features.mean() / 255 == pytest.approx(0.1307, abs=5e-5)


def test_rgb32_is_the_same_picture_padded_and_three_times(mnist: Dataset) -> None:
    flat = load_dataset("mnist-rgb32").test
    assert flat.features.shape == (10_000, 3072)
    channels = flat.features[3].reshape(3, 32, 32)
    assert (channels[:, 2:30, 2:30] == mnist.test.features[3]).all()
    assert channels.sum(dtype=int) == 3 * mnist.test.features[3].sum(dtype=int)
    assert flat.name == "mnist-rgb32"


def test_digits_are_enlarged_to_mnists_shape_and_say_their_name() -> None:
    digits = load_dataset("digits")
    assert digits.train.features.shape == (1497, 1, 28, 28)
    assert digits.test.features.shape == (300, 1, 28, 28)
    assert digits.train.name == digits.test.name == "digits"
    assert digits.train.features.max() == 255
    picture = digits.test.features[0, 0]
    assert (picture[2:26, 2:26] == picture[2:26:3, 2:26:3].repeat(3, 0).repeat(3, 1)).all()
    assert picture[:2].max() == picture[:, 26:].max() == 0


def test_sequences_are_the_same_on_every_call_with_classes_equally_frequent() -> None:
    first, again = load_dataset("sequences"), load_dataset("sequences")
    assert first.train.features.shape == (4000, 8, 1024)
    assert first.test.features.shape == (1000, 8, 1024)
    assert np.bincount(first.train.labels).tolist() == [500] * 8
    assert (first.train.features == again.train.features).all()
    assert not (first.train.features[:1000] == first.test.features).all()


def test_sequence_classes_zero_and_one_differ_in_order_alone() -> None:
    train = load_dataset("sequences").train
    means = [train.features[train.labels == label].mean(axis=0) for label in (0, 1)]
    assert np.abs(means[0] - means[1]).max() > 50
    assert np.abs(means[0] - means[1][::-1]).max() < 20


def test_unknown_data_set_is_refused_naming_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'cifar'.*mnist, digits"):
        load_dataset("cifar")


def test_validation_split_is_disjoint_covering_and_repeatable() -> None:
    whole = Examples(np.arange(100, dtype=np.float32)[:, None], np.zeros(100, np.int64), 1, "numbers")
    rest, validation = split_validation(whole, 0.2, seed=3)
    assert (rest.num_examples, validation.num_examples) == (80, 20)
    assert sorted([*rest.features[:, 0], *validation.features[:, 0]]) == list(range(100))
    assert (split_validation(whole, 0.2, seed=3)[1].features == validation.features).all()
    assert not (split_validation(whole, 0.2, seed=4)[1].features == validation.features).all()
    with pytest.raises(ValueError, match="leaves one part empty"):
        split_validation(whole, 0.001, seed=3)


LABELS = np.array([0, 1])


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (np.zeros((2, 3)), LABELS, "got float64 and int64"),
        (np.zeros((2, 3), np.uint8), LABELS.astype(np.uint8), "got uint8 and uint8"),
        (np.zeros((3, 3), np.uint8), LABELS, r"got shapes \[3, 3\] and \[2\]"),
        (np.zeros(2, np.uint8), LABELS, r"got shapes \[2\] and \[2\]"),
        (np.zeros((2, 3), np.uint8), LABELS - 1, "labels from 0 to 1, got -1 to 0"),
        (np.zeros((2, 3), np.uint8), LABELS + 1, "labels from 0 to 1, got 1 to 2"),
        (np.zeros((0, 3), np.uint8), LABELS[:0], "no examples"),
    ],
)
def test_examples_that_do_not_belong_together_are_refused(
    features: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        Examples(features, labels, 2, "wrong")


def test_agents_modules_import_nothing_that_only_the_coordinator_installs() -> None:
    program = (
        "import sys, learning.folders, learning.evaluation, learning.models, learning.training\n"
        "print(sorted({'sklearn', 'pooch', 'matplotlib', 'scipy', 'requests'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
