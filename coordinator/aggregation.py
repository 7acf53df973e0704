"""The weighted mean of many updates, exact and independent of the order in which they arrive.

`ExactMean` is FedAvg's aggregation step in integers on a fixed grid, where addition is associative: any order and
any tree of partial sums give the same bytes. `inspect` measures an update before it is let in. Which updates
count, and when a round closes, is the engine's decision, not this module's. What withstands attackers is in
`robust.py`.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from schemas.errors import PayloadError, Reason
from schemas.weights import Array, Gathered, Weights, check_structure, vector_of

FRACTION_BITS = 32
"""Floating-point values are rounded onto multiples of 2**-32; integers are summed as they are."""

INT64_MAX = 2**63 - 1

BLOCK_ELEMENTS = 32_768
"""Tensors are added in pieces whose scratch (128 kB and 256 kB, allocated once) stays in the processor's cache."""

DOT_ELEMENTS = 8192
"""OpenBLAS starts threads for dot products of more than 10,000 elements; their waiting would be our CPU time."""

_FLOATS = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))


@dataclass(frozen=True, slots=True)
class Inspection:
    """What `inspect` found out about an update.

    Attributes:
        finite: no value is infinite or not a number.
        norm: Euclidean distance from the reference, infinite unless finite.
        max_abs: the largest magnitude, infinite unless finite.
        weights: the update itself.
        grid_magnitudes: for each tensor the largest magnitude on `ExactMean`'s grid, so that `add` need not look
            again; None unless finite.
    """

    finite: bool
    norm: float
    max_abs: float
    weights: Weights = field(repr=False)
    grid_magnitudes: Mapping[str, int] | None = field(repr=False)


class ExactMean:
    """A running weighted mean, w = sum over k of n_k / n * w_k (McMahan et al. 2017, Algorithm 1).

    Every floating-point value is rounded once to the nearest multiple of 2**-32 (ties to even), multiplied by its
    update's number of examples and added in int64. Nothing is rounded again before `result`, so neither the order
    of `add` and `merge` nor the shape of a tree of partial sums changes a bit. Memory is 8 bytes per value of the
    model, however many updates there are.

    Range: for each floating-point tensor, the sum of n_k * max|w_k| stays below 2**31; for each integer tensor,
    below 2**63. An update that would pass the limit is refused before anything is changed: sums never wrap.

    Error: a floating-point mean is within 2**-33 + |mean| * 2**-51 of the true one before it is rounded to the
    tensor's dtype. Integer tensors (batch counters, say) get the exact weighted mean rounded to the nearest
    integer, ties to even.
    """

    def __init__(self, reference: Weights) -> None:
        """Start empty, for updates with the names, shapes and dtypes of `reference`, whose values are not used.

        Raises:
            TypeError: a tensor is neither float16, float32, float64 nor integer.
        """
        self._layout = {name: _placeholder(name, array) for name, array in reference.items()}
        self._places = _places(self._layout)
        # One vector, also where dtypes differ: what belongs to one tensor is a piece of it.
        self._total = np.zeros(sum(array.size for array in self._layout.values()), np.int64)
        self._sums = {name: self._total[place] for name, place in self._places.items()}
        dtypes = {array.dtype for array in self._layout.values()}
        self._one_dtype = dtypes.pop() if len(dtypes) == 1 else None
        self._bounds = dict.fromkeys(self._layout, 0)
        self._num_examples = 0
        self._num_updates = 0
        self._float_scratch = np.empty(BLOCK_ELEMENTS, np.float64)
        self._grid_scratch = np.empty(BLOCK_ELEMENTS, np.int64)

    @property
    def num_examples(self) -> int:
        """The total weight n of what was added."""
        return self._num_examples

    @property
    def num_updates(self) -> int:
        """How many updates were added, those inside merged sums included."""
        return self._num_updates

    def add(self, weights: Weights, num_examples: int, inspection: Inspection | None = None) -> None:
        """Take one update in, or refuse it and change nothing.

        Args:
            weights: the update, with the reference's names, shapes and dtypes.
            num_examples: n_k, the update's weight in the mean.
            inspection: what `inspect` returned for these very weights, unchanged since; saves reading them once more.

        Raises:
            PayloadError: wrong-names, wrong-shape, wrong-dtype, wrong-examples, non-finite or overflow.
            ValueError: the inspection is of other weights.
        """
        if not 0 < num_examples <= INT64_MAX:
            raise PayloadError(Reason.WRONG_EXAMPLES, f"an update of {num_examples} examples has no weight")
        check_structure(weights, self._layout)
        if inspection is not None and inspection.weights is not weights:
            raise ValueError("the inspection is of other weights than those to be added")
        magnitudes = _grid_magnitudes(weights) if inspection is None else inspection.grid_magnitudes
        if magnitudes is None:
            raise PayloadError(Reason.NON_FINITE, "some values are infinite or not numbers")
        bounds = {name: num_examples * magnitudes[name] for name in self._layout}
        self._book(bounds, num_examples, 1)
        vector = vector_of(weights)
        if vector is not None:
            self._accumulate(self._total, vector, num_examples)
            return
        for name, total in self._sums.items():
            self._accumulate(total, weights[name].reshape(-1), num_examples)

    def merge(self, other: "ExactMean") -> None:
        """Take in everything that `other` holds, or refuse it and change nothing. `other` stays as it is.

        Raises:
            PayloadError: wrong-names, wrong-shape or wrong-dtype when it sums another model, or overflow.
        """
        check_structure(other._layout, self._layout)
        self._book(dict(other._bounds), other._num_examples, other._num_updates)
        np.add(self._total, other._total, out=self._total)

    def result(self) -> dict[str, Array]:
        """The mean, in the reference's order, shapes and dtypes. More may be added afterwards.

        Raises:
            ValueError: nothing was added yet.
        """
        if not self._num_examples:
            raise ValueError("no update was added: there is no mean")
        if self._one_dtype is None:
            return {
                name: self._mean(self._sums[name], array.dtype).reshape(array.shape)
                for name, array in self._layout.items()
            }
        vector = self._mean(self._total, self._one_dtype)
        arrays = {name: vector[self._places[name]].reshape(array.shape) for name, array in self._layout.items()}
        return Gathered(arrays, vector)

    def snapshot(self) -> dict[str, Array]:
        """The whole state as int64 arrays, for a checkpoint or for the next level of a tree."""
        scalars = {"count/examples": self._num_examples, "count/updates": self._num_updates}
        scalars |= {f"bound/{name}": bound for name, bound in self._bounds.items()}
        sums = {f"sum/{name}": self._sums[name].reshape(array.shape).copy() for name, array in self._layout.items()}
        return {key: np.array(value, np.int64) for key, value in scalars.items()} | sums

    @classmethod
    def restore(cls, reference: Weights, snapshot: Weights) -> Self:
        """The accumulator from which `snapshot` was taken. No snapshot, however made, can make a later sum wrap.

        Raises:
            PayloadError: wrong-names, wrong-shape or wrong-dtype when it is not of this model, or malformed.
        """
        mean = cls(reference)
        check_structure(snapshot, mean.snapshot())
        for name in mean._layout:
            mean._sums[name][:] = snapshot[f"sum/{name}"].reshape(-1)
            mean._bounds[name] = int(snapshot[f"bound/{name}"])
        mean._num_examples = int(snapshot["count/examples"])
        mean._num_updates = int(snapshot["count/updates"])
        mean._check_restored()
        return mean

    def _check_restored(self) -> None:
        if not 0 <= self._num_updates <= self._num_examples or bool(self._num_updates) != bool(self._num_examples):
            raise PayloadError(Reason.MALFORMED, "the counts of a snapshot contradict each other")
        for name, total in self._sums.items():
            low, high = _extremes(total)
            if max(-int(low), int(high)) > self._bounds[name]:
                raise PayloadError(Reason.MALFORMED, f"the sum of {name!r} in a snapshot passes its own bound"[:300])

    def _book(self, bounds: Mapping[str, int], num_examples: int, num_updates: int) -> None:
        """Account for what is about to be added, or refuse all of it; exact, as Python's integers never wrap."""
        for name, bound in bounds.items():
            if self._bounds[name] + bound > INT64_MAX:
                raise PayloadError(Reason.OVERFLOW, f"the sum of {name!r} would leave its range"[:300])
        if self._num_examples + num_examples > INT64_MAX:
            raise PayloadError(Reason.OVERFLOW, "the number of examples would pass 2**63")
        for name, bound in bounds.items():
            self._bounds[name] += bound
        self._num_examples += num_examples
        self._num_updates += num_updates

    def _accumulate(self, total: npt.NDArray[np.int64], values: Array, num_examples: int) -> None:
        """Add num_examples * values on the grid.

        Multiplying by 2**32 and rounding to an integer are exact in float32 for float32 values, in float64 for
        float64 ones, and the cast is exact as the bound was booked before.
        """
        work_dtype = np.dtype(np.float64 if values.dtype == np.float64 else np.float32)
        scratch, scale = self._float_scratch.view(work_dtype), work_dtype.type(2**FRACTION_BITS)
        is_float = values.dtype.kind == "f"
        for block in _blocks(total.size, BLOCK_ELEMENTS):
            chunk, out = values[block], total[block]
            grid = self._grid_scratch[: chunk.size]
            if is_float:
                scaled = scratch[: chunk.size]
                np.multiply(chunk, scale, out=scaled, dtype=work_dtype)
                chunk = np.rint(scaled, out=scaled)
            np.copyto(grid, chunk, casting="unsafe")
            np.multiply(grid, num_examples, out=grid)
            np.add(out, grid, out=out)

    def _mean(self, total: npt.NDArray[np.int64], dtype: np.dtype[Any]) -> Array:
        if dtype.kind == "f":
            mean = np.divide(total, float(self._num_examples))
            mean *= 2.0**-FRACTION_BITS
        else:
            mean = _divide_to_nearest(total, self._num_examples)
        return mean.astype(dtype)


def inspect(weights: Weights, reference: Weights) -> Inspection:
    """Measure an update: is every value finite, how far is it from `reference`, how large is its largest value.

    The norm is ||w_k - w||_2 over the floating-point tensors, good to about four digits: it is held against a
    bound and never becomes part of a model. Integer tensors count towards `max_abs` alone.

    Raises:
        PayloadError: wrong-names, wrong-shape or wrong-dtype.
    """
    check_structure(weights, reference)
    magnitudes = _magnitudes(weights)
    if magnitudes is None:
        return Inspection(False, math.inf, math.inf, weights, None)
    max_abs = float(max(magnitudes.values(), default=0.0))
    return Inspection(True, distance(weights, reference), max_abs, weights, _on_grid(magnitudes))


def _placeholder(name: str, array: Array) -> Array:
    """An array of the same shape and dtype that takes no memory."""
    if array.dtype not in _FLOATS and array.dtype.kind not in "iu":
        raise TypeError(f"tensor {name!r} is {array.dtype}: only floats of at most 64 bits and integers have a mean")
    return _spread(array.dtype, array.shape)


@lru_cache(maxsize=1024)
def _spread(dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """One read-only zero as an array of any shape: every round asks for the same ones."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def _places(arrays: Weights) -> dict[str, slice]:
    """Where each array's values are among all of them, in the order of the names."""
    places, begin = {}, 0
    for name in sorted(arrays):
        places[name] = slice(begin, begin + arrays[name].size)
        begin += arrays[name].size
    return places


def _blocks(size: int, block_size: int) -> Iterator[slice]:
    return (slice(start, start + block_size) for start in range(0, size, block_size))


def _magnitudes(weights: Weights) -> dict[str, float | int] | None:
    """Each tensor's largest magnitude, an exact int for integer tensors; None when a value is not finite."""
    magnitudes: dict[str, float | int] = {}
    for name, (low, high) in _all_extremes(weights).items():
        if weights[name].dtype.kind != "f":
            magnitudes[name] = max(-int(low), int(high))
        elif math.isfinite(low) and math.isfinite(high):
            magnitudes[name] = max(-float(low), float(high))
        else:
            return None
    return magnitudes


def _all_extremes(weights: Weights) -> dict[str, tuple[Any, Any]]:
    vector = vector_of(weights)
    if vector is None or not all(values.size for values in weights.values()):  # reduceat knows no empty pieces
        return {name: _extremes(values) for name, values in weights.items()}
    places = _places(weights)
    begins = [place.start for place in places.values()]
    lows, highs = np.minimum.reduceat(vector, begins), np.maximum.reduceat(vector, begins)
    return dict(zip(places, zip(lows, highs, strict=True), strict=True))


def _extremes(values: Array) -> tuple[Any, Any]:
    """The smallest and the largest value (0 of an empty array): both finite exactly when all values are."""
    if not values.size:
        return 0, 0
    return np.minimum.reduce(values, axis=None), np.maximum.reduce(values, axis=None)


def _on_grid(magnitudes: Mapping[str, float | int]) -> dict[str, int]:
    """The magnitudes as exact multiples of the grid's step; what fits no int64 becomes 2**63."""
    limit = 2.0 ** (63 - FRACTION_BITS)
    return {
        name: size if isinstance(size, int) else round(min(size, limit) * 2.0**FRACTION_BITS)
        for name, size in magnitudes.items()
    }


def _grid_magnitudes(weights: Weights) -> dict[str, int] | None:
    magnitudes = _magnitudes(weights)
    return None if magnitudes is None else _on_grid(magnitudes)


def distance(weights: Weights, reference: Weights) -> float:
    """||weights - reference||_2 over the floating-point tensors; infinite where it is beyond float64.

    In float32 where its range allows. What underflows there is below a tenth of a thousandth of a sum above 1e-20.
    """
    scratch = np.empty(DOT_ELEMENTS, np.float64)
    are_floats = all(base.dtype.kind == "f" for base in reference.values())
    floats = reference if are_floats else {n: base for n, base in reference.items() if base.dtype.kind == "f"}
    with np.errstate(over="ignore", under="ignore"):
        if all(base.dtype == np.float32 for base in floats.values()):
            squares = _squared_distance(weights, floats, scratch.view(np.float32))
            if 1e-20 < squares < math.inf:
                return math.sqrt(squares)
        return math.sqrt(_squared_distance(weights, floats, scratch))


def _squared_distance(weights: Weights, reference: Weights, scratch: Array) -> float:
    vectors = vector_of(weights), vector_of(reference)
    if vectors[0] is not None and vectors[1] is not None:
        return _sum_of_squares(vectors[0], vectors[1], scratch)
    return sum(
        _sum_of_squares(weights[name].reshape(-1), base.reshape(-1), scratch) for name, base in reference.items()
    )


def _sum_of_squares(values: Array, base: Array, scratch: Array) -> float:
    squares = 0.0
    for block in _blocks(values.size, DOT_ELEMENTS):
        chunk = values[block]
        difference = scratch[: chunk.size]
        np.subtract(chunk, base[block], out=difference, dtype=scratch.dtype)
        squares += float(np.dot(difference, difference))
    return squares


def _divide_to_nearest(total: npt.NDArray[np.int64], divisor: int) -> npt.NDArray[np.int64]:
    """total / divisor in exact integer arithmetic, rounded to the nearest integer, ties to even."""
    quotient, remainder = np.divmod(total, divisor)
    rest = divisor - remainder
    odd = quotient % 2 == 1
    quotient += (remainder > rest) | ((remainder == rest) & odd)
    return quotient
