"""Robust aggregation for any updates: no byte depends on the order, and a median lies among the honest ones."""

from random import Random

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.robust import RULES, RobustAggregate, median
from schemas.weights import Array

SMALL = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 0.5, 1.0])
"""Few values, so that ties and both zeros are common."""

FLOAT32 = hnp.arrays(np.float32, 3, elements=SMALL | st.floats(-1000, 1000, width=32))
FLOAT64 = hnp.arrays(np.float64, (2, 1), elements=SMALL | st.floats(-1000, 1000))
COUNTERS = hnp.arrays(np.int64, (), elements=st.integers(-(2**63), 2**63 - 1))
WILD = hnp.arrays(np.float32, 3, elements=st.floats(-(2.0**100), 2.0**100, width=32))
MODELS = st.fixed_dictionaries({"w": FLOAT32, "v": FLOAT64, "n": COUNTERS})


def aggregate(name: str, updates: list[dict[str, Array]], reference: dict[str, Array]) -> dict[str, bytes]:
    kept = RobustAggregate(reference, RULES[name](1, None), len(updates))
    for update in updates:
        kept.add(update, 1)
    return {tensor: array.tobytes() for tensor, array in kept.result().items()}


@pytest.mark.parametrize("name", RULES)
@given(st.lists(MODELS, min_size=1, max_size=7), MODELS, st.randoms(use_true_random=False))
def test_order_of_arrival_changes_no_byte(
    name: str, updates: list[dict[str, Array]], reference: dict[str, Array], random: Random
) -> None:
    shuffled = list(updates)
    random.shuffle(shuffled)

    assert aggregate(name, updates, reference) == aggregate(name, shuffled, reference)


@given(
    st.lists(FLOAT32, min_size=3, max_size=7),
    hnp.arrays(np.float32, 3, elements=st.floats(-(2.0**100), 2.0**100, width=32)),
)
def test_median_stays_within_the_range_of_those_who_are_honest(honest: list[Array], attack: Array) -> None:
    kept = RobustAggregate({"w": attack}, median, 10)
    for update in (*honest, attack):
        kept.add({"w": update}, 1)

    found = kept.result()["w"]

    assert (found >= np.min(honest, axis=0)).all()
    assert (found <= np.max(honest, axis=0)).all()


@given(st.lists(FLOAT32, min_size=1, max_size=7))
def test_median_is_numpys(updates: list[Array]) -> None:
    kept = RobustAggregate({"w": updates[0]}, median, 10)
    for update in updates:
        kept.add({"w": update}, 1)

    expected = np.median(np.array(updates, np.float64), axis=0).astype(np.float32)
    np.testing.assert_array_equal(kept.result()["w"], expected)
