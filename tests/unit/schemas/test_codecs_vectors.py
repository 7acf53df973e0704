"""The test vectors of docs/codecs.md, held against the code: what a stranger implements is what we do."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from schemas.codecs import decode, encode, parse_codec, stream
from schemas.codecs.blocks import Layout
from schemas.weights import Array

PAGE = Path(__file__).parents[3] / "docs" / "codecs.md"


class Vector(NamedTuple):
    """One row of the page's table."""

    model: str
    codec: str
    scales: bytes
    inflated: bytes
    codes: bytes
    decoded: dict[int, np.float32]


def page_vectors() -> list[Vector]:
    table = PAGE.read_text().partition("<!-- vectors -->")[2].partition("<!-- /vectors -->")[0]
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in table.strip().splitlines()[2:]]
    return [
        Vector(
            model,
            codec,
            bytes.fromhex(scales.replace("none", "")),
            bytes.fromhex(inflated),
            bytes.fromhex(codes),
            {int(at): np.float32(value) for at, value in (pair.split(":") for pair in decoded.split())},
        )
        for model, codec, scales, inflated, codes, decoded in rows
    ]


def models() -> dict[str, dict[str, Array]]:
    long = np.zeros(600, np.float32)
    long[3], long[559] = 2, -2
    return {
        "small": {
            "w": np.array([[0.5, -0.25, 0, 1], [0.125, -1.5, 0.0625, 0]], np.float32),
            "b": np.array([0.75, -0.75, 0], np.float32),
        },
        "long": {"c": long},
    }


VECTORS = page_vectors()
EACH = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector.model}-{vector.codec}")


def test_page_has_a_vector_for_every_capability() -> None:
    needed = frozenset[str]().union(*(parse_codec(vector.codec).needs for vector in VECTORS))
    assert needed == {"fp16", "int8", "int4", "ternary", "topk"}


@EACH
def test_page_bytes_decode_to_the_page_values_bit_by_bit(vector: Vector) -> None:
    model, spec = models()[vector.model], parse_codec(vector.codec)
    packed: dict[str, Array] = {"codes": np.frombuffer(vector.codes, np.uint8)}
    if vector.scales:
        packed["scales"] = np.frombuffer(vector.scales, "<f4")
    layout = Layout.of(model, per_channel=False)
    found = layout.join(decode(packed, spec, model))
    expected = np.zeros_like(found)
    for position, value in vector.decoded.items():
        expected[position] = value
    assert found.tobytes() == expected.tobytes()


@EACH
def test_encoder_gives_the_page_scales_and_inflated_bytes(vector: Vector) -> None:
    packed = encode(models()[vector.model], parse_codec(vector.codec))
    assert stream.inflate(packed["codes"], 10_000).tobytes() == vector.inflated
    assert packed.get("scales", np.empty(0, np.float32)).astype("<f4").tobytes() == vector.scales


def test_page_names_every_word_of_the_parser() -> None:
    words = re.findall(r"^\| `([a-z0-9]+)", PAGE.read_text(), re.MULTILINE)
    assert {"fp32", "fp16", "ternary", "topk", "tensor", "nearest"} <= set(words)
