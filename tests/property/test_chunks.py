"""A blob that comes in chunks, some of them wrong, late, twice or never, is put together right or not at all."""

import contextlib
import hashlib
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from schemas import wire
from schemas.chunks import CHUNK_TENSOR, Fetch, cut, num_chunks
from schemas.errors import PayloadError
from schemas.messages import ChunkHeader
from schemas.pacing import WINDOW_CHUNKS
from schemas.weights import encode

CHUNK_BYTES = 16
BLOBS = st.binary(min_size=1, max_size=200)


def sha256_of(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()


@st.composite
def wrong_chunks(draw: st.DrawFn, blob: bytes) -> tuple[int, bytes]:
    """A chunk that a hostile sender may make, and the index of the topic that it comes on."""
    index = draw(st.integers(0, num_chunks(len(blob), CHUNK_BYTES) + 2))
    kind = draw(st.sampled_from(["bytes", "other blob", "other index", "other size", "other content", "other tensor"]))
    if kind == "bytes":
        return index, draw(st.binary(max_size=100))
    if kind == "other blob":
        return index, cut(blob, sha256_of(b"another"), CHUNK_BYTES, index, 1)
    named = draw(st.integers(0, 20)) if kind == "other index" else index
    size = draw(st.integers(0, 3 * CHUNK_BYTES)) if kind == "other size" else CHUNK_BYTES
    content = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.uint8)
    name = "other" if kind == "other tensor" else CHUNK_TENSOR
    return index, encode({name: content}, wire.encode(ChunkHeader(blob_sha256=sha256_of(blob), index=named), 1))


@given(BLOBS, st.data())
def test_blob_is_the_right_one_or_none_whatever_chunks_come(blob: bytes, data: st.DataObject) -> None:
    sha256 = sha256_of(blob)
    fetch = Fetch(len(blob), CHUNK_BYTES, sha256)
    now_s = 0.0
    for _ in range(data.draw(st.integers(0, 40))):
        now_s += data.draw(st.floats(0, 100))
        question = fetch.question(now_s)
        if question is not None and data.draw(st.booleans()):
            first, count = question
            for index in data.draw(st.permutations(range(first, first + count))):
                fetch.add(cut(blob, sha256, CHUNK_BYTES, index, 1), index, now_s)
        else:
            index, payload = data.draw(wrong_chunks(blob))
            with contextlib.suppress(PayloadError):
                fetch.add(payload, index, now_s)
        if fetch.complete:
            with contextlib.suppress(PayloadError):
                assert fetch.blob(now_s) == blob
                return

    # Whatever came before: an honest sender is enough.
    for _ in range(3 * num_chunks(len(blob), CHUNK_BYTES) + 3):
        if fetch.complete:
            with contextlib.suppress(PayloadError):
                assert fetch.blob(now_s) == blob
                return
        now_s = max(now_s, fetch.due_at_s)
        question = fetch.question(now_s)
        assert question is not None
        for index in range(question[0], sum(question)):
            fetch.add(cut(blob, sha256, CHUNK_BYTES, index, 1), index, now_s)
    raise AssertionError("an honest sender's chunks do not add up")


@given(BLOBS, st.lists(st.floats(0, 1000), max_size=40))
def test_questions_are_within_the_blob_and_the_window_and_grow_rarer_when_nothing_comes(
    blob: bytes, pauses_s: list[float]
) -> None:
    fetch = Fetch(len(blob), CHUNK_BYTES, sha256_of(blob))
    now_s, last_s, wait_s = 0.0, -math.inf, 0.0
    for pause_s in pauses_s:
        now_s += pause_s
        question = fetch.question(now_s)
        if question is None:
            assert now_s < fetch.due_at_s
            continue
        first, count = question
        assert 1 <= count <= WINDOW_CHUNKS
        assert first + count <= num_chunks(len(blob), CHUNK_BYTES)
        assert now_s - last_s >= wait_s - 1e-6
        assert fetch.due_at_s - now_s >= wait_s - 1e-6
        last_s, wait_s = now_s, fetch.due_at_s - now_s
