"""The exact mean on models small enough to check by hand, its limits, refusals and snapshots."""

import math
from typing import Any

import numpy as np
import pytest

from coordinator.aggregation import DOT_ELEMENTS, ExactMean, inspect
from schemas.errors import PayloadError, Reason
from schemas.weights import Array

STEP = 2.0**-32


def model(*values: float, dtype: Any = np.float32) -> dict[str, Array]:
    return {"w": np.array(values, dtype)}


def state(mean: ExactMean) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in mean.snapshot().items()}


def test_mean_of_two_agents_is_weighted_by_their_examples() -> None:
    mean = ExactMean(model(0, 0, 0))
    mean.add(model(1.0, 2.0, -4.0), num_examples=1)
    mean.add(model(5.0, 2.0, 4.0), num_examples=3)
    assert mean.result()["w"].tolist() == [4.0, 2.0, 2.0]
    assert (mean.num_examples, mean.num_updates) == (4, 2)


def test_result_keeps_names_shapes_dtypes_and_order_of_the_reference() -> None:
    reference: dict[str, Array] = {
        "z": np.zeros((2, 3), np.float32),
        "half": np.ones((2,), np.float16),
        "a": np.zeros((0, 4), np.float64),
        "counter": np.array(7, np.int64),
    }
    mean = ExactMean(reference)
    mean.add(reference, 5)
    result = mean.result()
    assert list(result) == list(reference)
    for name, array in reference.items():
        assert (result[name].shape, result[name].dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(result[name], array)


def test_any_memory_layout_gives_the_same_bytes() -> None:
    values = np.arange(24, dtype=np.float32).reshape(4, 6) / 7
    fortran, strided = np.asfortranarray(values), np.repeat(values, 2, axis=1)[:, ::2]
    results = []
    for array in (values, fortran, strided):
        mean = ExactMean({"w": values})
        mean.add({"w": array}, 3)
        results.append(mean.result()["w"].tobytes())
    assert len(set(results)) == 1


def test_value_between_two_grid_points_is_rounded_to_the_even_one() -> None:
    mean = ExactMean(model(0, 0, 0, 0, dtype=np.float64))
    mean.add(model(0.5 * STEP, 1.5 * STEP, -0.5 * STEP, 0.51 * STEP, dtype=np.float64), 1)
    assert mean.result()["w"].tolist() == [0.0, 2 * STEP, 0.0, STEP]


def test_denormal_values_count_as_zero() -> None:
    mean = ExactMean(model(0, 0))
    mean.add(model(1e-45, -1e-40), 1)
    assert mean.result()["w"].tolist() == [0.0, 0.0]


def test_integer_tensor_gets_the_mean_rounded_to_nearest_ties_to_even() -> None:
    mean = ExactMean(model(0, 0, 0, 0, dtype=np.int64))
    mean.add(model(1, 2, -1, 10, dtype=np.int64), 1)
    mean.add(model(2, 3, -2, 11, dtype=np.int64), 1)
    assert mean.result()["w"].tolist() == [2, 2, -2, 10]


def test_integers_beyond_float64_are_averaged_exactly() -> None:
    mean = ExactMean(model(0, dtype=np.int64))
    mean.add({"w": np.array([2**60 + 1], np.int64)}, 1)
    mean.add({"w": np.array([2**60 + 3], np.int64)}, 1)
    assert mean.result()["w"].tolist() == [2**60 + 2]


def test_unsigned_value_beyond_int64_is_refused() -> None:
    mean = ExactMean({"w": np.zeros(1, np.uint64)})
    with pytest.raises(PayloadError) as caught:
        mean.add({"w": np.array([2**63], np.uint64)}, 1)
    assert caught.value.reason is Reason.OVERFLOW


def test_sum_at_the_limit_is_exact_and_one_step_beyond_is_refused() -> None:
    largest = np.nextafter(np.float32(2.0**31), np.float32(0))
    mean = ExactMean(model(0, 0))
    mean.add(model(largest, -largest), 1)
    mean.add(model(127.0, -127.0), 1)
    before = state(mean)
    with pytest.raises(PayloadError) as caught:
        mean.add(model(1.0, 1.0), 1)
    assert caught.value.reason is Reason.OVERFLOW
    assert state(mean) == before
    mean.add(model(1.0 - 2.0**-24, -(1.0 - 2.0**-24)), 1)
    expected = np.float32((float(largest) + 128 - 2.0**-24) / 3)
    assert mean.result()["w"].tolist() == [expected, -expected]


def test_limit_counts_examples_times_magnitude() -> None:
    mean = ExactMean(model(0))
    mean.add(model(1.0), 2**31 - 1)
    with pytest.raises(PayloadError, match="overflow"):
        mean.add(model(-1.0), 1)
    assert mean.num_examples == 2**31 - 1


def test_number_of_examples_that_leaves_int64_is_refused_even_for_zeros() -> None:
    mean = ExactMean(model(0))
    mean.add(model(0), 2**63 - 1)
    with pytest.raises(PayloadError, match="overflow"):
        mean.add(model(0), 1)


@pytest.mark.parametrize("examples", [0, -1, 2**63])
def test_impossible_number_of_examples_is_refused(examples: int) -> None:
    with pytest.raises(PayloadError, match="wrong-examples"):
        ExactMean(model(0)).add(model(1), examples)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({}, Reason.WRONG_NAMES),
        ({"v": np.zeros(2, np.float32)}, Reason.WRONG_NAMES),
        ({"w": np.zeros(2, np.float32), "v": np.zeros(2, np.float32)}, Reason.WRONG_NAMES),
        ({"w": np.zeros(3, np.float32)}, Reason.WRONG_SHAPE),
        ({"w": np.zeros((2, 1), np.float32)}, Reason.WRONG_SHAPE),
        ({"w": np.zeros(2, np.float64)}, Reason.WRONG_DTYPE),
        ({"w": np.zeros(2, np.int32)}, Reason.WRONG_DTYPE),
        ({"w": np.array([1, math.nan], np.float32)}, Reason.NON_FINITE),
        ({"w": np.array([math.inf, 1], np.float32)}, Reason.NON_FINITE),
        ({"w": np.array([1, -math.inf], np.float32)}, Reason.NON_FINITE),
        ({"w": np.array([1, 1e38], np.float32)}, Reason.OVERFLOW),
    ],
)
def test_bad_update_is_refused_with_its_reason_and_changes_nothing(bad: dict[str, Array], reason: Reason) -> None:
    mean = ExactMean(model(0, 0))
    mean.add(model(1, 2), 3)
    before = state(mean)
    with pytest.raises(PayloadError) as caught:
        mean.add(bad, 3)
    assert caught.value.reason is reason
    assert state(mean) == before


def test_bad_second_tensor_leaves_the_first_untouched() -> None:
    reference = {"a": np.zeros(3, np.float32), "b": np.zeros(3, np.float32)}
    mean = ExactMean(reference)
    before = state(mean)
    with pytest.raises(PayloadError, match="non-finite"):
        mean.add({"a": np.ones(3, np.float32), "b": np.array([1, 2, math.nan], np.float32)}, 1)
    assert state(mean) == before


@pytest.mark.parametrize("dtype", [np.bool_, np.complex64, np.longdouble])
def test_model_with_a_dtype_that_has_no_mean_is_a_type_error(dtype: Any) -> None:
    with pytest.raises(TypeError, match="'w'"):
        ExactMean({"w": np.zeros(2, dtype)})


def test_mean_of_nothing_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="no update"):
        ExactMean(model(0)).result()


def test_merge_of_two_sites_equals_the_flat_sum() -> None:
    updates = [(model(0.1 * k, -0.3 * k), 10 + k) for k in range(1, 6)]
    flat, left, right = (ExactMean(model(0, 0)) for _ in range(3))
    for weights, examples in updates:
        flat.add(weights, examples)
    for weights, examples in updates[:2]:
        left.add(weights, examples)
    for weights, examples in updates[2:]:
        right.add(weights, examples)
    untouched = state(right)
    left.merge(right)
    assert state(left) == state(flat)
    assert state(right) == untouched
    assert left.num_updates == 5


def test_merge_beyond_the_limit_is_refused_and_changes_nothing() -> None:
    left, right = ExactMean(model(0, 0)), ExactMean(model(0, 0))
    left.add(model(1, 1), 2**30)
    right.add(model(1, 1), 2**30)
    before = state(left)
    with pytest.raises(PayloadError, match="overflow"):
        left.merge(right)
    assert state(left) == before


def test_merge_with_the_sum_of_another_model_is_refused() -> None:
    with pytest.raises(PayloadError, match="wrong-shape"):
        ExactMean(model(0, 0)).merge(ExactMean(model(0)))


def test_restored_snapshot_goes_on_as_if_nothing_had_happened() -> None:
    mean = ExactMean(model(0, 0))
    mean.add(model(0.1, 0.2), 7)
    restored = ExactMean.restore(model(0, 0), mean.snapshot())
    for each in (mean, restored):
        each.add(model(-0.7, 0.9), 5)
    assert state(restored) == state(mean)
    assert restored.num_updates == 2


def test_snapshot_does_not_change_with_later_updates() -> None:
    mean = ExactMean(model(0))
    mean.add(model(1), 1)
    snapshot = mean.snapshot()
    mean.add(model(1), 1)
    assert int(snapshot["sum/w"][0]) == 2**32


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sum/w", np.array([2**40], np.int64)),
        ("sum/w", np.array([-(2**63)], np.int64)),
        ("bound/w", np.array(-1, np.int64)),
        ("count/examples", np.array(0, np.int64)),
        ("count/updates", np.array(2, np.int64)),
        ("count/updates", np.array(-1, np.int64)),
        ("sum/w", np.array([1.0], np.float32)),
    ],
)
def test_forged_snapshot_is_refused(key: str, value: Array) -> None:
    mean = ExactMean(model(0))
    mean.add(model(1), 1)
    with pytest.raises(PayloadError) as caught:
        ExactMean.restore(model(0), mean.snapshot() | {key: value})
    assert caught.value.reason in {Reason.MALFORMED, Reason.WRONG_DTYPE}


def test_inspection_measures_norm_and_largest_magnitude() -> None:
    found = inspect(model(3.0, -5.0), model(0.0, -1.0))
    assert (found.finite, found.norm, found.max_abs) == (True, 5.0, 5.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_inspection_of_a_value_that_is_not_finite_says_so(value: float) -> None:
    found = inspect(model(1.0, value), model(0.0, 0.0))
    assert (found.finite, found.norm, found.max_abs) == (False, math.inf, math.inf)


@pytest.mark.parametrize("size", [3e38, 1e25, 1e-25, 1e-44])
def test_inspection_norm_is_right_where_float32_squares_leave_their_range(size: float) -> None:
    found = inspect(model(size, 0.0), model(-size if size > 1e38 else 0.0, 0.0))
    expected = float(np.float32(size)) * (2 if size > 1e38 else 1)
    assert found.norm == pytest.approx(expected, rel=1e-6)


def test_inspection_of_tensors_larger_than_a_block_covers_all_values() -> None:
    values = np.ones(3 * DOT_ELEMENTS + 5, np.float32)
    values[-1] = -2.0
    found = inspect({"w": values}, {"w": np.zeros_like(values)})
    assert found.norm == pytest.approx(math.sqrt(values.size + 3), rel=1e-6)
    assert found.max_abs == 2.0


def test_inspection_leaves_integer_tensors_out_of_the_norm() -> None:
    weights: dict[str, Array] = {"w": np.array([3.0], np.float32), "counter": np.array(-100, np.int64)}
    found = inspect(weights, {name: np.zeros_like(array) for name, array in weights.items()})
    assert (found.norm, found.max_abs) == (3.0, 100.0)


def test_inspection_of_another_model_is_refused() -> None:
    with pytest.raises(PayloadError, match="wrong-names"):
        inspect({"v": np.zeros(1, np.float32)}, model(0))


def test_add_with_its_inspection_gives_the_same_sum() -> None:
    weights = model(0.25, -7.5)
    plain, inspected = ExactMean(weights), ExactMean(weights)
    plain.add(weights, 9)
    inspected.add(weights, 9, inspect(weights, model(0, 0)))
    assert state(plain) == state(inspected)


def test_add_with_the_inspection_of_a_bad_update_is_refused() -> None:
    weights = model(math.nan)
    with pytest.raises(PayloadError, match="non-finite"):
        ExactMean(model(0)).add(weights, 1, inspect(weights, model(0)))


def test_add_with_the_inspection_of_other_weights_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="other weights"):
        ExactMean(model(0)).add(model(1), 1, inspect(model(1), model(0)))
