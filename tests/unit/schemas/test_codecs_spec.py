"""The text of a codec: what is read, how it is written back, and what is refused."""

import pytest

from schemas.codecs import CAPABILITIES, CodecSpec, Kind, parse_codec
from schemas.errors import PayloadError, Reason


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("fp32", CodecSpec(Kind.FP32)),
        ("fp16", CodecSpec(Kind.FP16)),
        ("int8", CodecSpec(Kind.INT8)),
        ("int8,tensor,nearest", CodecSpec(Kind.INT8)),
        ("stochastic,int8,channel", CodecSpec(Kind.INT8, per_channel=True, stochastic=True)),
        ("ternary", CodecSpec(Kind.TERNARY, threshold=1.5)),
        ("ternary:0", CodecSpec(Kind.TERNARY, threshold=0.0)),
        ("ternary:2.25", CodecSpec(Kind.TERNARY, threshold=2.25)),
        ("topk:0.02", CodecSpec(Kind.FP32, topk=0.02)),
        ("int4,topk:1", CodecSpec(Kind.INT4, topk=1.0)),
        ("topk:0.0001,ternary", CodecSpec(Kind.TERNARY, topk=0.0001)),
    ],
)
def test_codec_text_is_read_and_written_back(text: str, spec: CodecSpec) -> None:
    assert parse_codec(text) == spec
    assert parse_codec(str(spec)) == spec


def test_codec_is_written_in_its_shortest_form() -> None:
    assert str(parse_codec("nearest,int4,topk:0.0200,channel")) == "topk:0.02,int4,channel"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " int8",
        "int8,",
        "INT8",
        "int9",
        "int8,int4",
        "int8,int8",
        "int8:3",
        "channel,tensor,int8",
        "nearest,stochastic,int8",
        "topk",
        "topk:",
        "topk:0",
        "topk:1.5",
        "topk:-0.1",
        "topk:1e-3",
        "topk:0.00001",
        "topk:nan",
        "topk:0.1,topk:0.2",
        "ternary:",
        "ternary:1e3",
        "ternary:٣",
        "ternary:1.5,topk:0.1",
        "ternary:0,stochastic",
        "topk:0.1,ternary,stochastic",
        "fp32,channel",
        "topk:0.1,stochastic",
        "int8," * 20,
        "x" * 10_000_000,
    ],
    ids=lambda text: text[:30] or "empty",
)
def test_impossible_codec_text_is_refused_with_its_beginning(text: str) -> None:
    with pytest.raises(PayloadError) as caught:
        parse_codec(text)
    assert caught.value.reason is Reason.UNKNOWN_CODEC
    assert len(caught.value.detail) < 250


def test_needs_name_what_a_receiver_must_have() -> None:
    assert parse_codec("fp32").needs == frozenset()
    assert parse_codec("int8,channel,stochastic").needs == {"int8"}
    assert parse_codec("topk:0.1").needs == {"topk"}
    assert parse_codec("topk:0.1,ternary").needs == {"topk", "ternary"}
    assert set(CAPABILITIES) == {str(kind) for kind in Kind if kind is not Kind.FP32} | {"topk"}
