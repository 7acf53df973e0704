"""Blobs of arrays: one deterministic form, strict reading, and checks against a reference model."""

import json
from copy import copy
from typing import Any

import numpy as np
import pytest

from schemas.errors import PayloadError, Reason
from schemas.weights import (
    MAX_HEADER_BYTES,
    MAX_TENSORS,
    Array,
    check_structure,
    decode,
    digest,
    encode,
    segments,
    vector_of,
)

MODEL: dict[str, Array] = {
    "fc.weight": np.array([[1.5, -2.0]], np.float32),
    "steps": np.array(3, np.int64),
    "empty": np.zeros((0, 4), np.float32),
}


def blob_of(head: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def refusal(blob: bytes) -> Reason:
    with pytest.raises(PayloadError) as caught:
        decode(blob)
    return caught.value.reason


def test_arrays_and_header_come_back_when_a_blob_is_read() -> None:
    header, arrays = decode(encode(MODEL, b'{"v":"1.1"}'))

    assert header == b'{"v":"1.1"}'
    assert arrays.keys() == MODEL.keys()
    for name, array in MODEL.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(arrays[name], array)


def test_header_is_empty_when_the_blob_has_none() -> None:
    assert decode(encode(MODEL))[0] == b""


def test_bytes_are_the_same_when_the_order_of_names_or_the_memory_layout_differs() -> None:
    square = np.arange(6, dtype=np.float32).reshape(2, 3)
    forwards = {"a": square, "b": MODEL["steps"]}
    backwards = {"b": MODEL["steps"], "a": np.asfortranarray(square)}

    assert encode(forwards) == encode(backwards)
    assert digest(forwards) == digest(backwards)


def test_segments_are_views_when_arrays_lie_in_order() -> None:
    array = np.ones(1000, np.float32)

    parts = segments({"a": array})

    assert np.shares_memory(np.frombuffer(parts[-1], np.uint8), array)
    assert b"".join(parts) == encode({"a": array})


def test_arrays_cannot_be_written_to_when_they_were_read() -> None:
    arrays = decode(encode(MODEL))[1]

    assert not any(array.flags.writeable for array in arrays.values())


def test_encoding_fails_when_a_dtype_does_not_travel() -> None:
    with pytest.raises(ValueError, match="complex"):
        encode({"a": np.zeros(1, np.complex64)})


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (b"", Reason.MALFORMED),
        (b"\0" * 7, Reason.MALFORMED),
        (blob_of(b"{}", length=2**63), Reason.TOO_LARGE),
        (blob_of(b"{}", length=MAX_HEADER_BYTES + 1), Reason.TOO_LARGE),
        (blob_of(b"{}", length=3), Reason.MALFORMED),
        (blob_of(b"[]"), Reason.MALFORMED),
        (blob_of(b"{"), Reason.MALFORMED),
        (blob_of(b"\xff"), Reason.MALFORMED),
        (blob_of(b"[" * 100_000), Reason.MALFORMED),
        (blob_of({f"t{i}": 1 for i in range(MAX_TENSORS + 1)}), Reason.TOO_LARGE),
        (blob_of({"a": []}), Reason.MALFORMED),
        (blob_of({"a": {"dtype": "F32"}}), Reason.MALFORMED),
        (blob_of({"a": entry() | {"more": 1}}, bytes(4)), Reason.MALFORMED),
        (blob_of({"a": entry("BF16", [2])}, bytes(4)), Reason.WRONG_DTYPE),
        (blob_of({"a": entry(7)}, bytes(4)), Reason.WRONG_DTYPE),
        (blob_of({"a": entry(shape=[-1])}, bytes(4)), Reason.MALFORMED),
        (blob_of({"a": entry(shape=[True])}, bytes(4)), Reason.MALFORMED),
        (blob_of({"a": entry(shape=[1.0])}, bytes(4)), Reason.MALFORMED),
        (blob_of({"a": entry(shape=[1] * 17)}, bytes(4)), Reason.MALFORMED),
        (blob_of({"a": entry(shape=[2**47, 2**47], offsets=[0, 4])}, bytes(4)), Reason.MALFORMED),
        (blob_of({"a": entry(shape=[2])}, bytes(4)), Reason.MALFORMED),
        (blob_of({"a": entry(offsets=[0, 4, 8])}, bytes(4)), Reason.MALFORMED),
        (blob_of({"a": entry(offsets=[4, 0])}, bytes(4)), Reason.MALFORMED),
        (blob_of({"a": entry(offsets=[4, 8])}, bytes(8)), Reason.MALFORMED),
        (blob_of({"a": entry()}, bytes(3)), Reason.MALFORMED),
        (blob_of({"a": entry()}, bytes(5)), Reason.MALFORMED),
        (blob_of({"a": entry(), "b": entry()}, bytes(8)), Reason.MALFORMED),
        (blob_of({"a": entry(), "__metadata__": []}, bytes(4)), Reason.MALFORMED),
        (blob_of({"a": entry(), "__metadata__": {"federation": 1}}, bytes(4)), Reason.MALFORMED),
    ],
)
def test_blob_is_refused_when_it_is_not_a_well_formed_one(blob: bytes, reason: Reason) -> None:
    assert refusal(blob) is reason


def test_arrays_are_read_when_a_sender_does_not_align_them() -> None:
    head = json.dumps({"a": entry("F64", [1], [0, 8])}).encode()
    head += b" " * ((3 - len(head)) % 8)

    arrays = decode(blob_of(head, np.float64(2.5).tobytes()))[1]

    assert arrays["a"].tolist() == [2.5]


def test_digest_differs_when_name_dtype_shape_or_value_does() -> None:
    base = {"a": np.zeros((2, 1), np.float32)}
    others: list[dict[str, Array]] = [
        {"b": base["a"]},
        {"a": np.zeros((2, 1), np.int32)},
        {"a": np.zeros((1, 2), np.float32)},
        {"a": np.array([[0.0], [-0.0]], np.float32)},
    ]

    assert len({digest(weights) for weights in [base, *others]}) == 5


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({}, Reason.WRONG_NAMES),
        ({"a": np.zeros(2, np.float32), "b": np.zeros(1)}, Reason.WRONG_NAMES),
        ({"a": np.zeros(3, np.float32)}, Reason.WRONG_SHAPE),
        ({"a": np.zeros((2, 1), np.float32)}, Reason.WRONG_SHAPE),
        ({"a": np.zeros(2, np.float64)}, Reason.WRONG_DTYPE),
    ],
)
def test_weights_are_refused_when_their_structure_is_not_the_models(other: dict[str, Array], reason: Reason) -> None:
    with pytest.raises(PayloadError) as caught:
        check_structure(other, {"a": np.zeros(2, np.float32)})

    assert caught.value.reason is reason


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">f2", ">i8", ">u2"])
def test_numbers_are_the_same_when_an_array_is_big_endian(dtype: str) -> None:
    little = np.arange(6).reshape(2, 3).astype(np.dtype(dtype).newbyteorder("<"))
    big = little.astype(dtype)

    assert encode({"w": big}) == encode({"w": little})
    assert digest({"w": big}) == digest({"w": little})
    assert np.array_equal(decode(encode({"w": big}))[1]["w"], little)


def with_head(head: bytes, data: bytes) -> bytes:
    return len(head).to_bytes(8, "little") + head + data


ONE = b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
OURS = b'"__metadata__":{"federation":"x"}'


def test_layout_that_is_known_already_is_read_as_the_first_time() -> None:
    blob = with_head(b"{" + OURS + b"," + ONE + b"}", b"\0\0\x80?")

    for _ in range(2):
        header, arrays = decode(blob)
        assert header == b"x"
        assert {name: array.tolist() for name, array in arrays.items()} == {"a": [1.0]}
    with pytest.raises(PayloadError, match="belong to no tensor"):
        decode(blob + b"\0")
    with pytest.raises(PayloadError, match="lies beyond the end"):
        decode(blob[:-1])


@pytest.mark.parametrize(
    "head",
    [
        b"{" + OURS + b",}",
        b"{" + OURS + b"," + ONE + b",}",
        b"{" + OURS + b"," + ONE + b"}}",
        b'{"__metadata__":{"federation":"\x01"},' + ONE + b"}",
        b'{"__metadata__":{"federation":"\\x"},' + ONE + b"}",
        b'{"__metadata__":{"federation":"\xff"},' + ONE + b"}",
    ],
)
def test_head_that_is_not_json_is_refused_however_familiar_its_end_is(head: bytes) -> None:
    decode(with_head(b"{" + OURS + b"," + ONE + b"}", b"\0\0\x80?"))

    with pytest.raises(PayloadError) as refusal:
        decode(with_head(head, b"\0\0\x80?"))

    assert refusal.value.reason is Reason.MALFORMED


def test_arrays_of_one_dtype_are_also_one_vector() -> None:
    weights = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array([7.0], np.float32)}
    _, one = decode(encode(weights))
    _, mixed = decode(encode(weights | {"c": np.array([1], np.int64)}))

    vector = vector_of(one)
    assert vector is not None
    assert vector.tolist() == [7.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert vector_of(mixed) is None
    assert vector_of(weights) is None
    assert type(copy(one)) is dict, "what another process is sent holds each array once"
