"""Values to codes and scales, and back: value = code * scale, one float32 multiplication.

That product is the whole decoder. IEEE 754 rounds it the same way on every processor, and no scale is so small that
the result could be a denormal, which some processors flush to zero: so decoded values have the same bits everywhere.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.codecs.blocks import FloatVector, Layout
from schemas.codecs.codes import LARGEST
from schemas.codecs.rounding import Generator, to_float16, to_integers
from schemas.codecs.spec import CodecSpec, Kind
from schemas.errors import PayloadError, Reason
from schemas.weights import Array

MIN_SCALE = np.float32(2.0**-100)
"""Blocks that would need a smaller scale are written as zeros. Float16 codes go down to 2**-24, so that every product
is a normal float32."""

_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Quantised:
    """A vector as codes: `positions` of those that are written (None: all), their codes and each block's scale.

    Codes are int8 for integer kinds, float16 or float32; `scales` is empty for fp32.
    """

    positions: npt.NDArray[np.int64] | None
    codes: Array
    scales: FloatVector


def quantise(values: FloatVector, layout: Layout, spec: CodecSpec, generator: Generator | None) -> Quantised:
    """The nearest codes, or random ones with the right expectation where the codec is stochastic.

    Raises:
        PayloadError: non-finite.
        ValueError: a stochastic codec without a generator.
    """
    if not np.isfinite(values).all():
        raise PayloadError(Reason.NON_FINITE, "some values to be encoded are infinite or not numbers")
    if spec.stochastic and generator is None:
        raise ValueError(f"codec {spec} rounds at random and needs a generator")
    if not spec.stochastic:
        generator = None
    kept = _select(values, layout, spec, generator) if spec.is_sparse else None
    if spec.kind is Kind.FP32:
        positions = None if kept is None else np.flatnonzero(kept)
        return Quantised(positions, values if positions is None else values[positions], np.empty(0, np.float32))
    scales = _scales(values, kept, layout, spec)
    spread = layout.spread(scales)
    if kept is None:
        return Quantised(None, _codes(values, spread, spec, generator), scales)
    positions = np.flatnonzero(kept & (spread > 0))
    return Quantised(positions, _codes(values[positions], spread[positions], spec, generator), scales)


def restore(quantised: Quantised, layout: Layout) -> FloatVector:
    """The vector that the codes stand for.

    Raises:
        PayloadError: non-finite when a product is beyond float32.
    """
    codes, positions = quantised.codes.astype(np.float32, copy=False), quantised.positions
    if quantised.codes.dtype != np.float32:
        scales = layout.spread(quantised.scales)
        with np.errstate(over="ignore"):
            codes = codes * (scales if positions is None else scales[positions])
        if not np.isfinite(codes).all():
            raise PayloadError(Reason.NON_FINITE, "some codes times their scale are beyond float32")
    if positions is None:
        return codes
    values = np.zeros(layout.num_values, np.float32)
    values[positions] = codes
    return values


def check_scales(scales: Array, num_blocks: int) -> None:
    """Refuse scales that no encoder writes.

    Raises:
        PayloadError: wrong-shape, wrong-dtype or malformed.
    """
    if scales.shape != (num_blocks,):
        raise PayloadError(Reason.WRONG_SHAPE, f"scales are {scales.shape}, expected ({num_blocks},)")
    if scales.dtype != np.float32:
        raise PayloadError(Reason.WRONG_DTYPE, f"scales are {scales.dtype}, expected float32")
    if not ((scales == 0) | ((scales >= MIN_SCALE) & (scales <= _FLOAT32_MAX))).all():
        raise PayloadError(Reason.MALFORMED, "a scale is negative, too small or not finite")


def _select(values: FloatVector, layout: Layout, spec: CodecSpec, generator: Generator | None) -> npt.NDArray[np.bool_]:
    """Which values are written: never a zero."""
    if spec.topk is not None:
        largest = _largest(np.abs(values), max(1, round(spec.topk * values.size)))
        largest[values == 0] = False
        return largest
    limits = np.array([_ternary_limit(values[block], spec) for block in layout.blocks()], np.float32)
    limit = layout.spread(limits)
    if generator is None:
        kept: npt.NDArray[np.bool_] = np.abs(values) > limit
    else:
        # P(kept) = |x| / limit, so that sign * limit has the expectation x (Wen et al. 2017, "TernGrad", equation 3).
        kept = generator.random(values.size, np.float32) * limit < np.abs(values)
    return kept


def _largest(magnitudes: FloatVector, count: int) -> npt.NDArray[np.bool_]:
    """The `count` largest; of equal ones the first."""
    if magnitudes.size <= count:
        return np.ones(magnitudes.size, np.bool_)
    smallest = np.partition(magnitudes, magnitudes.size - count)[magnitudes.size - count]
    kept: npt.NDArray[np.bool_] = magnitudes > smallest
    ties = np.flatnonzero(magnitudes == smallest)
    kept[ties[: count - int(np.count_nonzero(kept))]] = True
    return kept


def _ternary_limit(values: FloatVector, spec: CodecSpec) -> float:
    """Threshold times root mean square, at most what float32 holds."""
    mean_square = float(np.mean(np.square(values, dtype=np.float64)))
    return min((spec.threshold or 0.0) * math.sqrt(mean_square), _FLOAT32_MAX)


def _scales(values: FloatVector, kept: npt.NDArray[np.bool_] | None, layout: Layout, spec: CodecSpec) -> FloatVector:
    written = np.abs(values) if kept is None else np.where(kept, np.abs(values), np.float32(0))
    scales = np.array([_scale(values[block], written[block], spec) for block in layout.blocks()], np.float32)
    scales[scales < MIN_SCALE] = 0
    return scales


def _scale(values: FloatVector, written: FloatVector, spec: CodecSpec) -> float:
    """The scale of one block, from all its values and from the magnitudes that are written (others are zero)."""
    if spec.kind is Kind.TERNARY:
        if spec.stochastic:
            return _ternary_limit(values, spec)
        count = int(np.count_nonzero(written))
        return float(np.sum(written, dtype=np.float64)) / count if count else 0.0
    largest = float(written.max())
    if spec.kind is Kind.FP16:
        # A power of two, with which float16 numbers come back unchanged: largest / scale is in [2**14, 2**15).
        return math.ldexp(1.0, math.frexp(largest)[1] - 15) if largest else 0.0
    return min(largest, _FLOAT32_MAX * (1 - 2.0**-22)) / LARGEST[spec.kind]


def _codes(values: FloatVector, scales: FloatVector, spec: CodecSpec, generator: Generator | None) -> Array:
    if spec.kind is Kind.TERNARY:
        return np.sign(values).astype(np.int8)
    ratios = np.divide(values, scales, out=np.zeros_like(values), where=scales > 0)
    if spec.kind is Kind.FP16:
        return to_float16(ratios, generator)
    return to_integers(ratios, LARGEST[spec.kind], generator)
