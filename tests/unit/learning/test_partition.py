"""Who gets which examples."""

import numpy as np
import pytest

from learning.datasets import Dataset
from learning.partition import SCHEMES, partition
from schemas.errors import ConfigError

LABELS = np.arange(1000) % 10


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("num_agents", [1, 2, 3, 5, 7, 12, 100])
def test_parts_are_disjoint_cover_all_and_are_never_empty(scheme: str, num_agents: int) -> None:
    parts = partition(LABELS, num_agents, scheme, seed=4, alpha=0.1)
    assert len(parts) == num_agents
    assert min(len(part) for part in parts) > 0
    assert sorted(np.concatenate(parts).tolist()) == list(range(1000))
    assert all(part.dtype == np.int64 and (np.diff(part) > 0).all() for part in parts)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_parts_depend_on_the_seed_alone(scheme: str) -> None:
    first, again, other = (partition(LABELS, 12, scheme, seed) for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any(a.tolist() != b.tolist() for a, b in zip(first, other, strict=True))


def test_iid_parts_differ_in_size_by_at_most_one_and_hold_all_classes() -> None:
    parts = partition(LABELS, 7, "iid", seed=1)
    assert {len(part) for part in parts} == {142, 143}
    assert all(len(np.unique(LABELS[part])) == 10 for part in parts)


def classes_of(num_agents: int, labels: np.ndarray[tuple[int], np.dtype[np.int64]] = LABELS) -> list[list[int]]:
    return [np.unique(labels[part]).tolist() for part in partition(labels, num_agents, "digit-pairs", seed=1)]


def test_each_of_five_agents_holds_one_pair_of_digits() -> None:
    assert classes_of(5) == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


def test_fewer_agents_than_pairs_hold_several() -> None:
    assert classes_of(2) == [[0, 1, 4, 5, 8, 9], [2, 3, 6, 7]]


def test_more_agents_than_pairs_share_them_equally() -> None:
    assert classes_of(7) == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [0, 1], [2, 3]]
    parts = partition(LABELS, 7, "digit-pairs", seed=1)
    assert [len(part) for part in parts] == [100, 100, 200, 200, 200, 100, 100]


def test_odd_class_stands_alone_and_absent_classes_make_no_empty_pair() -> None:
    assert classes_of(2, np.array([0, 4, 9, 0, 4, 9])) == [[0, 4], [9]]


def test_mnist_by_digit_pairs_has_the_known_sizes(mnist: Dataset) -> None:
    parts = partition(mnist.train.labels, 5, "digit-pairs", seed=1)
    # Published class counts: 5923 6742 5958 6131 5842 5421 5918 6265 5851 5949.
    assert [len(part) for part in parts] == [12665, 12089, 11263, 12183, 11800]


def test_dirichlet_is_more_uneven_the_smaller_alpha() -> None:
    def largest_share(alpha: float) -> float:
        parts = partition(LABELS, 5, "dirichlet", seed=1, alpha=alpha)
        return float(np.mean([np.bincount(LABELS[part]).max() / len(part) for part in parts]))

    assert largest_share(1000) == pytest.approx(0.1, abs=0.02)
    assert largest_share(0.05) > 0.4


@pytest.mark.parametrize(
    ("num_agents", "scheme", "alpha", "message"),
    [
        (5, "sorted", 0.5, "unknown partition 'sorted': expected one of iid, digit-pairs, dirichlet"),
        (0, "iid", 0.5, "among 0 agents"),
        (1001, "iid", 0.5, "1000 examples among 1001 agents"),
        (5, "dirichlet", 0.0, "alpha must be above 0"),
        (5, "dirichlet", float("nan"), "alpha must be above 0"),
    ],
)
def test_impossible_division_is_refused(num_agents: int, scheme: str, alpha: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        partition(LABELS, num_agents, scheme, seed=1, alpha=alpha)


def test_pair_with_fewer_examples_than_holders_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cannot divide the 1 examples of classes \[2\] among 2 agents"):
        partition(np.array([0, 1] * 4 + [2]), 4, "digit-pairs", seed=1)
