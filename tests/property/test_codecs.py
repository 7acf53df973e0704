"""Codecs for any tensors, and for any bytes: round trips are exact, and nothing but PayloadError ever comes out."""

import contextlib
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import weights as blobs
from schemas.codecs import CodecSpec, Kind, compress, decode, encode, parse_codec, rounding_generator
from schemas.codecs.stream import deflate
from schemas.errors import PayloadError, Reason
from schemas.weights import Array

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.sampled_from("fpint4816ternaychotksl:.,0123"), max_size=40)


@st.composite
def specs(draw: st.DrawFn) -> CodecSpec:
    kind = draw(st.sampled_from(Kind))
    topk = draw(st.none() | st.integers(1, 10_000).map(lambda n: n / 10_000))
    scaled = kind is not Kind.FP32
    threshold = draw(st.integers(0, 300).map(lambda n: n / 100)) if kind is Kind.TERNARY and topk is None else None
    random = scaled and (kind is not Kind.TERNARY or bool(threshold))
    return CodecSpec(kind, threshold, topk, scaled and draw(st.booleans()), random and draw(st.booleans()))


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    """Any shape, and any memory layout of it."""
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9))
    dtype = draw(st.sampled_from([np.float32, np.float32, np.float32, np.int64]))
    elements: st.SearchStrategy[Any] = FINITE if dtype is np.float32 else st.integers(-(2**63), 2**63 - 1)
    array: Array = draw(hnp.arrays(dtype, shape, elements=elements))
    match draw(st.sampled_from(["c", "fortran", "reversed", "strided"])):
        case "fortran":
            return np.asfortranarray(array) if array.ndim else array
        case "reversed":
            return array[..., ::-1].copy()[..., ::-1] if array.ndim else array
        case "strided":
            return np.repeat(array, 2, axis=0)[::2] if array.ndim else array
    return array


MODELS = st.dictionaries(st.sampled_from(["codes", "scales", "a", "b.weight", "ä", ""]), arrays(), max_size=4)


def generator() -> np.random.Generator:
    return rounding_generator(1, 1, "pi-1")


@given(specs())
def test_text_of_any_codec_reads_back(spec: CodecSpec) -> None:
    assert parse_codec(str(spec)) == spec
    assert len(str(spec)) <= 64


@given(TEXTS)
def test_any_text_is_a_codec_or_refused(text: str) -> None:
    with contextlib.suppress(PayloadError):
        assert parse_codec(str(parse_codec(text))) == parse_codec(text)


@given(MODELS, specs())
def test_any_finite_tensors_decode_to_the_sender_s_bits(weights: dict[str, Array], spec: CodecSpec) -> None:
    sent = compress(weights, {}, spec, generator())
    _, packed = blobs.decode(blobs.encode(sent.packed))
    found = decode(packed, spec, weights)
    assert found.keys() == weights.keys()
    for name, array in weights.items():
        assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype)
        assert found[name].tobytes() == sent.decoded[name].tobytes()
        if array.dtype != np.float32 or spec.is_identity:
            assert found[name].tobytes() == array.tobytes()
        else:
            assert np.isfinite(found[name]).all()


@given(MODELS, specs())
def test_encoding_what_was_decoded_changes_nothing_more(weights: dict[str, Array], spec: CodecSpec) -> None:
    if spec.stochastic or spec.kind is Kind.TERNARY:
        return
    once = compress(weights, {}, spec).decoded
    again = compress(once, {}, spec).decoded
    for name, array in once.items():
        if array.dtype == np.float32:
            np.testing.assert_allclose(again[name], array, rtol=1e-6)


@given(MODELS, specs())
def test_residual_and_message_add_up(weights: dict[str, Array], spec: CodecSpec) -> None:
    sent = compress(weights, {}, spec, generator())
    for name, residual in sent.residual.items():
        assert residual.tobytes() == (weights[name] - sent.decoded[name]).astype(np.float32).tobytes()


@given(hnp.arrays(np.float32, (3, 5), elements=st.floats(-1, 1, width=32)))
def test_int8_error_is_half_a_step_at_most(values: Array) -> None:
    found = decode(encode({"w": values}, parse_codec("int8")), parse_codec("int8"), {"w": values})["w"]
    assert np.abs(found - values).max() <= max(np.abs(values).max() / 127 * 0.50001, 1e-28)


@given(hnp.arrays(np.float32, 4, elements=st.floats(width=32)), specs())
def test_values_that_are_not_finite_are_never_sent(values: Array, spec: CodecSpec) -> None:
    if spec.is_identity or np.isfinite(values).all():
        return
    with pytest.raises(PayloadError) as caught:
        encode({"w": values}, spec, generator())
    assert caught.value.reason is Reason.NON_FINITE


REFERENCE: dict[str, Array] = {
    "b": np.zeros(5, np.float32),
    "n": np.zeros((), np.int64),
    "w": np.zeros((40, 3), np.float32),
}
PACKED = st.fixed_dictionaries(
    {"codes": st.binary(max_size=200).map(lambda data: np.frombuffer(data, np.uint8))},
    optional={
        "scales": hnp.arrays(st.sampled_from([np.float32, np.float64]), st.sampled_from([(2,), (41,), (), (2, 1)])),
        "as-is/n": hnp.arrays(st.sampled_from([np.int64, np.float32]), st.sampled_from([(), (1,)])),
        "n": st.just(np.zeros((), np.int64)),
    },
)


def decode_or_refuse(packed: dict[str, Array], spec: CodecSpec) -> None:
    """Decoding gives finite tensors like the reference's or PayloadError; anything else fails the test."""
    with contextlib.suppress(PayloadError):
        found = decode(packed, spec, REFERENCE)
        blobs.check_structure(found, REFERENCE)
        assert spec.is_identity or all(np.isfinite(array).all() for array in found.values())


@given(PACKED, specs())
def test_any_packed_tensors_decode_or_are_refused(packed: dict[str, Array], spec: CodecSpec) -> None:
    decode_or_refuse(packed, spec)


@given(st.binary(max_size=300), specs(), st.floats(0, 2.0**100, width=32))
def test_any_inflated_bytes_decode_or_are_refused(plain: bytes, spec: CodecSpec, scale: float) -> None:
    blocks = 41 if spec.per_channel else 2
    packed: dict[str, Array] = {"codes": deflate(plain), "as-is/n": REFERENCE["n"]}
    if spec.kind is not Kind.FP32:
        packed["scales"] = np.full(blocks, scale, np.float32)
    decode_or_refuse(packed, spec)


@given(specs(), st.integers(0, 2**32 - 1), st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=5))
def test_mutated_messages_decode_or_are_refused(spec: CodecSpec, seed: int, changes: list[tuple[int, int]]) -> None:
    values = np.random.default_rng(seed)
    weights = {name: values.normal(0, 1, a.shape).astype(a.dtype) for name, a in REFERENCE.items()}
    packed = encode(weights, spec, generator())
    for name in {"codes", "scales"} & packed.keys():
        data = bytearray(packed[name].tobytes())
        for position, value in changes:
            data[position % len(data)] = value
        packed[name] = np.frombuffer(bytes(data), packed[name].dtype)
    decode_or_refuse(packed, spec)
