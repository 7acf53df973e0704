"""A model's tensors to a few packed ones and back, as `docs/codecs.md` specifies."""

import numpy as np

from schemas.codecs import codes, positions, stream
from schemas.codecs.blocks import Layout
from schemas.codecs.quantisation import Quantised, check_scales, quantise, restore
from schemas.codecs.rounding import Generator
from schemas.codecs.spec import CodecSpec, Kind
from schemas.errors import PayloadError, Reason
from schemas.weights import Array, Weights, check_structure

CODES = "codes"
SCALES = "scales"
AS_IS = "as-is/"
"""Tensors that are not float32 (counters, say) travel unchanged under this prefix."""

COUNT_BYTES = 4


def encode(weights: Weights, spec: CodecSpec, generator: Generator | None = None) -> dict[str, Array]:
    """The tensors in packed form, ready for `schemas.weights.encode`.

    Args:
        weights: a model's tensors or their differences. The arrays of those that are not packed are not copied.
        spec: the codec.
        generator: for stochastic rounding (see `rounding_generator`); nearest rounding does not use it.

    Raises:
        PayloadError: non-finite.
        ValueError: a stochastic codec without a generator.
    """
    if spec.is_identity:
        return dict(weights)
    layout = Layout.of(weights, spec.per_channel)
    return pack(quantise(layout.join(weights), layout, spec, generator), layout, spec, weights)


def decode(packed: Weights, spec: CodecSpec, reference: Weights) -> dict[str, Array]:
    """The tensors from their packed form: the same bits on every machine.

    Args:
        packed: what came out of a blob; nothing about it is trusted.
        spec: the codec that it was announced with.
        reference: the model, of which names, shapes and dtypes count. They limit what is allocated.

    Raises:
        PayloadError: wrong-names, wrong-shape, wrong-dtype, malformed, too-large or non-finite, and nothing else.
    """
    if spec.is_identity:
        check_structure(packed, reference)
        return dict(packed)
    layout = Layout.of(reference, spec.per_channel)
    check_structure(
        {name: array for name, array in packed.items() if name not in (CODES, SCALES)},
        {AS_IS + name: reference[name] for name in layout.others},
    )
    return unpacked(restore(_unpack(packed, layout, spec), layout), layout, packed, AS_IS)


def pack(quantised: Quantised, layout: Layout, spec: CodecSpec, weights: Weights) -> dict[str, Array]:
    """What is sent for a quantised vector, with the other tensors of `weights` as they are."""
    parts = [codes.write(spec.kind, quantised.codes).tobytes()]
    if quantised.positions is not None:
        count = quantised.positions.size.to_bytes(COUNT_BYTES, "little")
        parts = [count + parts[0], positions.write(quantised.positions, layout.num_values).tobytes()]
    packed: dict[str, Array] = {CODES: stream.deflate(*parts, floats=spec.kind in (Kind.FP16, Kind.FP32))}
    if spec.kind is not Kind.FP32:
        packed[SCALES] = quantised.scales
    return packed | {AS_IS + name: weights[name] for name in layout.others}


def unpacked(values: Array, layout: Layout, others: Weights, prefix: str = "") -> dict[str, Array]:
    """The tensors of a vector, and the other ones from where they are."""
    tensors = layout.split(values)
    return tensors | {name: others[prefix + name] for name in layout.others}


def _unpack(packed: Weights, layout: Layout, spec: CodecSpec) -> Quantised:
    expected = {CODES} if spec.kind is Kind.FP32 else {CODES, SCALES}
    if packed.keys() & {CODES, SCALES} != expected:
        raise PayloadError(Reason.WRONG_NAMES, f"expected the tensors {sorted(expected)}")
    coded = packed[CODES]
    if coded.dtype != np.uint8 or coded.ndim != 1:
        raise PayloadError(Reason.WRONG_DTYPE, f"codes are {coded.ndim}-d {coded.dtype}, expected 1-d uint8")
    scales = packed.get(SCALES, np.empty(0, np.float32))
    if spec.kind is not Kind.FP32:
        check_scales(scales, layout.num_blocks)
    if spec.is_sparse:
        return _unpack_sparse(coded, scales, layout.num_values, spec.kind)
    size = codes.num_bytes(spec.kind, layout.num_values)
    plain = stream.inflate(coded, size)
    if plain.size != size:
        raise PayloadError(Reason.MALFORMED, f"{plain.size} bytes of codes, expected {size}")
    return Quantised(None, codes.read(spec.kind, plain, layout.num_values), scales)


def _unpack_sparse(coded: Array, scales: Array, num_values: int, kind: Kind) -> Quantised:
    limit = COUNT_BYTES + codes.num_bytes(kind, num_values) + positions.max_bytes(num_values)
    plain = stream.inflate(coded, limit)
    count = int.from_bytes(plain[:COUNT_BYTES].tobytes(), "little")
    end = COUNT_BYTES + codes.num_bytes(kind, count)
    if count > num_values or end > plain.size:
        raise PayloadError(Reason.MALFORMED, f"{plain.size} bytes for {count} of {num_values} values")
    found = positions.read(plain[end:], count, num_values)
    return Quantised(found, codes.read(kind, plain[COUNT_BYTES:end], count), scales)
