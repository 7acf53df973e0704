"""The exact mean for any order, any tree of partial sums and any values, against exact rational arithmetic."""

from fractions import Fraction
from random import Random

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coordinator.aggregation import BLOCK_ELEMENTS, ExactMean, inspect
from schemas.errors import PayloadError, Reason
from schemas.weights import Array, decode, encode, vector_of

Update = tuple[dict[str, Array], int]

FLOAT32 = hnp.arrays(np.float32, 3, elements=st.floats(-1000, 1000, width=32))
FLOAT64 = hnp.arrays(np.float64, (2, 1), elements=st.floats(-1000, 1000))
COUNTERS = hnp.arrays(np.int64, (), elements=st.integers(-(2**40), 2**40))
MODELS = st.fixed_dictionaries({"w": FLOAT32, "v": FLOAT64, "n": COUNTERS})
UPDATES = st.lists(st.tuples(MODELS, st.integers(1, 10_000)), min_size=1, max_size=6)
ANY_FLOAT32 = st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=True)


def total(updates: list[Update]) -> ExactMean:
    mean = ExactMean(updates[0][0])
    for weights, num_examples in updates:
        mean.add(weights, num_examples)
    return mean


def state(mean: ExactMean) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in mean.snapshot().items()}


@given(UPDATES, st.randoms(use_true_random=False))
def test_order_of_arrival_changes_no_byte(updates: list[Update], random: Random) -> None:
    shuffled = list(updates)
    random.shuffle(shuffled)
    assert state(total(updates)) == state(total(shuffled))
    for name, array in total(updates).result().items():
        assert array.tobytes() == total(shuffled).result()[name].tobytes()


@given(UPDATES, st.data())
def test_any_tree_of_partial_sums_equals_the_flat_sum(updates: list[Update], data: st.DataObject) -> None:
    nodes = [total([update]) for update in updates]
    while len(nodes) > 1:
        left = nodes.pop(data.draw(st.integers(0, len(nodes) - 1)))
        nodes[data.draw(st.integers(0, len(nodes) - 1))].merge(left)
    assert state(nodes[0]) == state(total(updates))


@given(
    st.lists(st.tuples(st.fixed_dictionaries({"w": FLOAT32, "v": FLOAT32}), st.integers(1, 9)), min_size=1, max_size=4)
)
def test_updates_that_lie_in_one_piece_give_the_same_bytes(updates: list[Update]) -> None:
    pieces = [(decode(encode(weights))[1], num_examples) for weights, num_examples in updates]

    assert all(vector_of(weights) is not None for weights, _ in pieces)
    assert state(total(pieces)) == state(total(updates))
    for name, array in total(pieces).result().items():
        assert array.tobytes() == total(updates).result()[name].tobytes()
    whole, apart = (inspect(first[0], last[0]) for first, last in ((pieces[0], pieces[-1]), (updates[0], updates[-1])))
    assert whole.norm == pytest.approx(apart.norm, rel=1e-4)


@given(UPDATES)
def test_mean_is_within_its_stated_error_of_the_true_mean(updates: list[Update]) -> None:
    result = total(updates).result()
    examples = sum(n for _, n in updates)
    for name in ("w", "v"):
        for position, found in enumerate(result[name].reshape(-1)):
            terms = [Fraction(float(w[name].reshape(-1)[position])) * n for w, n in updates]
            exact = sum(terms, Fraction(0)) / examples
            error = Fraction(1, 2**33) + abs(exact) / 2**51
            if result[name].dtype == np.float32:
                error += (abs(exact) + error) / 2**24
            assert abs(Fraction(float(found)) - exact) <= error


@given(UPDATES)
def test_integer_mean_is_the_true_mean_rounded_half_to_even(updates: list[Update]) -> None:
    exact = Fraction(sum(int(w["n"]) * n for w, n in updates), sum(n for _, n in updates))
    assert int(total(updates).result()["n"]) == round(exact)


@given(UPDATES)
def test_sum_is_the_rational_sum_of_the_values_on_the_grid(updates: list[Update]) -> None:
    found = total(updates).snapshot()["sum/w"]
    for position in range(3):
        assert int(found[position]) == sum(n * round(Fraction(float(w["w"][position])) * 2**32) for w, n in updates)


@given(hnp.arrays(np.float32, 4, elements=ANY_FLOAT32), st.integers(1, 2**40))
@example(np.array([3.4e38, 1, 1, 1], np.float32), 1)
@example(np.array([1e-45, -1e-45, 0, -0.0], np.float32), 1)
def test_any_float32_values_are_summed_exactly_or_refused(values: Array, num_examples: int) -> None:
    mean = ExactMean({"w": values})
    before = state(mean)
    finite = bool(np.isfinite(values).all())
    fits = finite and num_examples * round(Fraction(float(np.abs(values).max())) * 2**32) < 2**63
    if fits:
        mean.add({"w": values}, num_examples)
        exact = [num_examples * round(Fraction(float(value)) * 2**32) for value in values]
        assert mean.snapshot()["sum/w"].tolist() == exact
    else:
        with pytest.raises(PayloadError) as caught:
            mean.add({"w": values}, num_examples)
        assert caught.value.reason is (Reason.OVERFLOW if finite else Reason.NON_FINITE)
        assert state(mean) == before


@given(st.lists(st.tuples(st.integers(-(2**62), 2**62), st.integers(1, 4)), min_size=1, max_size=8))
def test_sums_near_the_limit_are_exact_or_refused_but_never_wrap(updates: list[tuple[int, int]]) -> None:
    mean, accepted, bound = ExactMean({"n": np.zeros((), np.int64)}), 0, 0
    for value, num_examples in updates:
        fits = bound + num_examples * abs(value) < 2**63
        if fits:
            mean.add({"n": np.array(value, np.int64)}, num_examples)
            accepted, bound = accepted + num_examples * value, bound + num_examples * abs(value)
        else:
            with pytest.raises(PayloadError, match="overflow"):
                mean.add({"n": np.array(value, np.int64)}, num_examples)
        assert int(mean.snapshot()["sum/n"]) == accepted


@given(
    hnp.arrays(np.float32, 5, elements=ANY_FLOAT32), hnp.arrays(np.float32, 5, elements=st.floats(-1e3, 1e3, width=32))
)
def test_inspection_agrees_with_plain_float64_arithmetic(values: Array, reference: Array) -> None:
    found = inspect({"w": values}, {"w": reference})
    assert found.finite == bool(np.isfinite(values).all())
    if found.finite:
        assert found.max_abs == float(np.abs(values).max())
        expected = np.linalg.norm(values.astype(np.float64) - reference.astype(np.float64))
        assert found.norm == pytest.approx(expected, rel=1e-4)


@given(st.integers(1, 3 * BLOCK_ELEMENTS), st.integers(0, 2**32 - 1))
def test_tensors_of_any_size_are_summed_like_numpy_integers(size: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(0, 1, size).astype(np.float32)
    mean = ExactMean({"w": values})
    mean.add({"w": values}, 3)
    expected = np.rint(values.astype(np.float64) * 2**32).astype(np.int64) * 3
    assert mean.snapshot()["sum/w"].tobytes() == expected.tobytes()
    assert int(mean.snapshot()["bound/w"]) == np.abs(expected).max()
