"""Codecs on small tensors: their error, their randomness, what they refuse, and error feedback."""

import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest

from schemas import weights as blobs
from schemas.codecs import compress, decode, encode, parse_codec, rounding_generator
from schemas.codecs.stream import deflate
from schemas.errors import PayloadError, Reason
from schemas.weights import Array

ALL = ("fp16", "int8", "int4", "ternary:1", "topk:0.25", "topk:0.25,int8", "topk:0.25,ternary", "int8,channel")
FLOAT32_MAX = float(np.finfo(np.float32).max)


def tensors(*values: float) -> dict[str, Array]:
    return {"w": np.array(values, np.float32)}


def normal_tensors(seed: int = 1) -> dict[str, Array]:
    generator = np.random.default_rng(seed)
    shapes = {"conv": (4, 3, 5), "bias": (4,), "fc": (6, 7)}
    return {name: generator.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}


def round_trip(weights: dict[str, Array], text: str) -> dict[str, Array]:
    spec = parse_codec(text)
    generator = rounding_generator(1, 2, "pi-1") if spec.stochastic else None
    return decode(encode(weights, spec, generator), spec, weights)


def same_bits(left: dict[str, Array], right: dict[str, Array]) -> bool:
    return left.keys() == right.keys() and all(left[name].tobytes() == right[name].tobytes() for name in left)


def stored(plain: bytes) -> Array:
    """A valid DEFLATE stream of these bytes."""
    return deflate(plain)


def test_fp32_sends_the_tensors_as_they_are() -> None:
    weights = normal_tensors()
    packed = encode(weights, parse_codec("fp32"))
    assert packed.keys() == weights.keys()
    assert same_bits(decode(packed, parse_codec("fp32"), weights), weights)


@pytest.mark.parametrize(("text", "largest"), [("int8", 127), ("int4", 7)])
def test_integer_codes_are_off_by_half_a_step_at_most(text: str, largest: int) -> None:
    weights = normal_tensors()
    for name, decoded in round_trip(weights, text).items():
        step = np.abs(weights[name]).max() / largest
        assert np.abs(decoded - weights[name]).max() <= step * 0.5001


def test_channel_scales_follow_each_row() -> None:
    weights = {"w": np.array([[100.0, 50.0], [0.001, 0.0005]], np.float32)}
    decoded = round_trip(weights, "int8,channel")["w"]
    np.testing.assert_allclose(decoded, weights["w"], rtol=0.01)
    assert round_trip(weights, "int8")["w"][1].tolist() == [0.0, 0.0]


def test_fp16_keeps_float16_numbers_exactly_and_others_to_eleven_bits() -> None:
    exact = tensors(0.5, -1.25, 3.0, 65504.0, 0.0)
    assert same_bits(round_trip(exact, "fp16"), exact)
    weights = normal_tensors()
    for name, decoded in round_trip(weights, "fp16").items():
        np.testing.assert_allclose(decoded, weights[name], rtol=2.0**-11, atol=1e-9)


def test_ternary_sends_the_mean_magnitude_of_values_above_the_threshold() -> None:
    # Root mean square 2: with threshold 1.5, |x| > 3.
    decoded = round_trip(tensors(3.5, -4.5, 1.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.5), "ternary:1.5")["w"]
    assert decoded.tolist() == [4.0, -4.0, 0, 0, 0, 0, 0, 0, 0]


def test_ternary_of_nothing_but_zeros_is_zeros() -> None:
    assert round_trip(tensors(0, 0, 0), "ternary:0")["w"].tolist() == [0, 0, 0]


def test_topk_keeps_the_largest_of_all_tensors_and_the_first_of_equals() -> None:
    weights = {"a": np.array([1, -5, 2, 2], np.float32), "b": np.array([[2.0, 7.0]], np.float32)}
    decoded = round_trip(weights, "topk:0.5")
    assert decoded["a"].tolist() == [0, -5, 2, 0]
    assert decoded["b"].tolist() == [[0, 7]]


def test_topk_never_writes_zeros() -> None:
    assert round_trip(tensors(0, 0, 3, 0), "topk:1,int8")["w"].tolist() == [0, 0, 3, 0]


@pytest.mark.parametrize("text", ["int8,stochastic", "int4,stochastic", "fp16,stochastic", "ternary:2,stochastic"])
def test_stochastic_rounding_has_the_right_mean(text: str) -> None:
    spec, weights = parse_codec(text), tensors(1.0, 0.2001, -0.7003, 0.03001, 0.0)
    generator = rounding_generator(7, 1, "pi-1")
    draws = [decode(encode(weights, spec, generator), spec, weights)["w"] for _ in range(4000)]
    spread = np.std(draws, axis=0) / np.sqrt(len(draws))
    assert (np.abs(np.mean(draws, axis=0) - weights["w"]) <= 4 * spread + 1e-6).all()


def test_rounding_generator_repeats_itself_and_differs_by_party_and_round() -> None:
    spec, weights = parse_codec("int4,stochastic"), normal_tensors()
    keys = [(1, 2, "pi-1"), (1, 2, "pi-1"), (1, 2, "pi-2"), (1, 3, "pi-1"), (2, 2, "pi-1")]
    codes = [encode(weights, spec, rounding_generator(*key))["codes"].tobytes() for key in keys]
    assert codes[0] == codes[1]
    assert len(set(codes)) == 4


def test_nearest_rounding_ignores_a_generator() -> None:
    weights, spec = normal_tensors(), parse_codec("int4")
    assert same_bits(encode(weights, spec, rounding_generator(1, 1, "a")), encode(weights, spec))


def test_stochastic_codec_without_a_generator_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="needs a generator"):
        encode(tensors(1), parse_codec("int8,stochastic"))


@pytest.mark.parametrize("text", ALL)
def test_largest_float32_values_survive(text: str) -> None:
    decoded = round_trip(tensors(FLOAT32_MAX, -FLOAT32_MAX, 1e30, -FLOAT32_MAX), text)["w"]
    assert np.isfinite(decoded).all()
    assert decoded[0] > 0.99 * FLOAT32_MAX


@pytest.mark.parametrize("text", ["fp16", "int8", "int4", "ternary:1", "topk:1,int8", "topk:1,ternary"])
def test_values_too_small_for_a_scale_become_zeros(text: str) -> None:
    assert round_trip(tensors(1e-45, -1e-38, 1e-40), text)["w"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("text", ALL)
def test_values_that_are_not_finite_are_refused(text: str, bad: float) -> None:
    with pytest.raises(PayloadError) as caught:
        encode(tensors(1.0, bad), parse_codec(text))
    assert caught.value.reason is Reason.NON_FINITE


@pytest.mark.parametrize("text", ["int8", "ternary:1", "topk:0.5"])
def test_tensors_of_other_dtypes_travel_unchanged(text: str) -> None:
    weights: dict[str, Array] = {
        "w": np.array([1.0, -1.0], np.float32),
        "counter": np.array(12345678901, np.int64),
        "codes": np.array([1, 2, 3], np.int16),
    }
    decoded = round_trip(weights, text)
    assert decoded.keys() == weights.keys()
    assert decoded["counter"] == 12345678901
    assert decoded["codes"].tolist() == [1, 2, 3]
    assert decoded["codes"].dtype == weights["codes"].dtype


@pytest.mark.parametrize("text", ALL)
def test_model_without_float32_values_passes(text: str) -> None:
    weights: dict[str, Array] = {"empty": np.zeros((0, 3), np.float32), "n": np.array(3, np.int64)}
    decoded = round_trip(weights, text)
    assert (decoded["empty"].shape, decoded["n"].tolist()) == ((0, 3), 3)


def test_sparse_update_of_a_small_cnn_takes_a_few_thousand_bytes() -> None:
    generator = np.random.default_rng(0)
    shapes = {"conv1": (16, 1, 4, 4), "b1": (16,), "conv2": (32, 16, 4, 4), "b2": (32,), "fc": (10, 3872), "b3": (10,)}
    weights = {name: generator.standard_t(3, shape).astype(np.float32) for name, shape in shapes.items()}
    packed = encode(weights, parse_codec("ternary:2"))
    assert set(packed) == {"codes", "scales"}
    assert len(blobs.encode(packed)) < 3000


def good(text: str = "int8") -> dict[str, Array]:
    return encode(tensors(0.5, -1.0, 0.25), parse_codec(text))


@pytest.mark.parametrize(
    ("text", "change", "reason"),
    [
        ("int8", {"codes": None}, Reason.WRONG_NAMES),
        ("int8", {"scales": None}, Reason.WRONG_NAMES),
        ("topk:1", {"scales": np.ones(1, np.float32)}, Reason.WRONG_NAMES),
        ("int8", {"extra": np.ones(1, np.float32)}, Reason.WRONG_NAMES),
        ("int8", {"as-is/w": np.ones(3, np.float32)}, Reason.WRONG_NAMES),
        ("int8", {"codes": np.zeros(3, np.int8)}, Reason.WRONG_DTYPE),
        ("int8", {"codes": np.zeros((3, 1), np.uint8)}, Reason.WRONG_DTYPE),
        ("int8", {"scales": np.ones(1, np.float64)}, Reason.WRONG_DTYPE),
        ("int8", {"scales": np.ones(2, np.float32)}, Reason.WRONG_SHAPE),
        ("int8", {"scales": np.array(1, np.float32)}, Reason.WRONG_SHAPE),
        ("int8", {"scales": np.array([-1], np.float32)}, Reason.MALFORMED),
        ("int8", {"scales": np.array([np.nan], np.float32)}, Reason.MALFORMED),
        ("int8", {"scales": np.array([np.inf], np.float32)}, Reason.MALFORMED),
        ("int8", {"scales": np.array([1e-40], np.float32)}, Reason.MALFORMED),
        ("int8", {"scales": np.array([3e38], np.float32)}, Reason.NON_FINITE),
        ("int8", {"codes": np.zeros(0, np.uint8)}, Reason.MALFORMED),
        ("int8", {"codes": np.full(9, 255, np.uint8)}, Reason.MALFORMED),
        ("int8", {"codes": stored(b"\x01\x02")}, Reason.MALFORMED),
        ("int8", {"codes": stored(b"\x01\x02\x03\x04")}, Reason.TOO_LARGE),
        ("int8", {"codes": stored(b"\x01\x02\x03")[:-1]}, Reason.MALFORMED),
        ("int8", {"codes": np.append(stored(b"\x01\x02\x03"), np.uint8(0))}, Reason.MALFORMED),
        ("int8", {"codes": stored(b"\x01\x80\x03")}, Reason.MALFORMED),
        ("int4", {"codes": stored(b"\x18\x10")}, Reason.MALFORMED),
        ("int4", {"codes": stored(b"\x12\x31")}, Reason.MALFORMED),
        ("fp16", {"codes": stored(b"\x7c\x00\x00\x00\x00\x00")}, Reason.NON_FINITE),
        ("topk:1", {"codes": stored(b"\x01\0\0\0\x7f\x80\0\0\x80")}, Reason.NON_FINITE),
        ("ternary", {"codes": stored(b"")}, Reason.MALFORMED),
        ("ternary", {"codes": stored(b"\x01\0")}, Reason.MALFORMED),
        ("ternary", {"codes": stored(b"\x04\0\0\0\0\xf0")}, Reason.MALFORMED),
        ("ternary", {"codes": stored(b"\xff\xff\xff\xff\0\0")}, Reason.MALFORMED),
        ("ternary", {"codes": stored(b"\x01\0\0\0\x01\x80")}, Reason.MALFORMED),
        ("ternary", {"codes": stored(b"\x01\0\0\0\x80\xc0")}, Reason.MALFORMED),
        ("ternary", {"codes": stored(b"\x01\0\0\0\x80\x08")}, Reason.MALFORMED),
        ("ternary", {"codes": stored(b"\x01\0\0\0\x80")}, Reason.MALFORMED),
    ],
)
def test_malformed_input_is_refused_with_its_reason(text: str, change: dict[str, Array | None], reason: Reason) -> None:
    packed = {name: array for name, array in (good(text) | change).items() if array is not None}
    with pytest.raises(PayloadError) as caught:
        decode(packed, parse_codec(text), tensors(0, 0, 0))
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    "skips",
    [b"\x01", b"\x01\x02\x03", b"\x01\xff", b"\xff\xff\xff\xff\x00\x00", b"\x00\xff\xff\xff\xff\xff", b""],
    ids=lambda skips: skips.hex() or "none",
)
def test_malformed_skips_are_refused(skips: bytes) -> None:
    codes = stored((2).to_bytes(4, "little") + b"\x80" + skips)
    packed: dict[str, Array] = {"codes": codes, "scales": np.ones(1, np.float32)}
    with pytest.raises(PayloadError) as caught:
        decode(packed, parse_codec("ternary"), {"w": np.zeros(1000, np.float32)})
    assert caught.value.reason is Reason.MALFORMED


@pytest.mark.parametrize("text", ["int8", "ternary", "topk:0.5"])
def test_decompression_bomb_is_refused_without_being_unpacked(text: str) -> None:
    reference = {"w": np.zeros(1000, np.float32)}
    bomb = np.frombuffer(zlib.compress(bytes(50_000_000), 9)[2:-4], np.uint8)
    packed = encode(reference, parse_codec(text)) | {"codes": bomb}
    tracemalloc.start()
    with pytest.raises(PayloadError) as caught:
        decode(packed, parse_codec(text), reference)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.reason is Reason.TOO_LARGE
    assert peak < 500_000


@pytest.mark.parametrize("text", [*ALL, "fp32", "int8,stochastic", "ternary:2,stochastic"])
def test_compressed_message_decodes_to_what_the_sender_thinks_bit_by_bit(text: str) -> None:
    spec, weights = parse_codec(text), normal_tensors() | {"n": np.array(5, np.int64)}
    sent = compress(weights, {}, spec, rounding_generator(1, 1, "pi-1"))
    _, packed = blobs.decode(blobs.encode(sent.packed))
    assert same_bits(decode(packed, spec, weights), sent.decoded)


def test_residual_is_what_the_message_lost() -> None:
    sent = compress(tensors(1.0, 0.25, -0.5), {}, parse_codec("topk:0.34"))
    assert sent.decoded["w"].tolist() == [1.0, 0, 0]
    assert sent.residual["w"].tolist() == [0, 0.25, -0.5]


def test_error_feedback_delivers_in_the_end_what_every_message_alone_loses() -> None:
    spec, wanted, residual = parse_codec("topk:0.34"), tensors(1.0, 0.25, -0.5), dict[str, Array]()
    total = np.zeros(3)
    for _ in range(40):
        sent = compress(wanted, residual, spec)
        residual, total = sent.residual, total + sent.decoded["w"]
    np.testing.assert_array_equal(total + residual["w"], 40 * wanted["w"])
    np.testing.assert_allclose(total / 40, wanted["w"], atol=0.1)


def test_compress_leaves_its_arguments_alone() -> None:
    weights, residual = normal_tensors(1), normal_tensors(2)
    compress(weights, residual, parse_codec("int4"))
    assert same_bits(weights, normal_tensors(1))
    assert same_bits(residual, normal_tensors(2))


def test_residual_of_another_model_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="another model"):
        compress(tensors(1, 2), tensors(1), parse_codec("int8"))


def test_sum_with_a_residual_beyond_float32_is_refused() -> None:
    with pytest.raises(PayloadError, match="non-finite"):
        compress(tensors(3e38), tensors(3e38), parse_codec("int8"))


def test_byte_order_and_layout_of_the_input_do_not_matter() -> None:
    values: Any = np.arange(12, dtype=np.float32).reshape(3, 4)
    expected = encode({"w": values}, parse_codec("int8"))
    for other in (np.asfortranarray(values), values.astype(">f4"), np.repeat(values, 2, axis=0)[::2]):
        assert same_bits(encode({"w": other}, parse_codec("int8")), expected)
