"""Cutting a blob and putting it together, and when a receiver asks for what."""

import hashlib
import math
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from schemas import chunks, wire
from schemas.chunks import Assembly, Fetch
from schemas.errors import PayloadError, Reason
from schemas.messages import ChunkHeader
from schemas.weights import Weights, decode, digest, encode

BLOB = bytes(range(100)) * 50  # 5,000 bytes: four chunks of 1,024 and one of 904
SHA256 = hashlib.sha256(BLOB).hexdigest()
CHUNK_BYTES = 1024
OTHER = hashlib.sha256(b"another").hexdigest()


def chunk(index: int, blob: bytes = BLOB, sha256: str = SHA256) -> bytes:
    return chunks.cut(blob, sha256, CHUNK_BYTES, index, minor=1)


def assembly() -> Assembly:
    return Assembly(len(BLOB), CHUNK_BYTES, SHA256)


def refusal(whole: Assembly, payload: bytes, index: int) -> Reason:
    with pytest.raises(PayloadError) as caught:
        whole.add(payload, index)
    return caught.value.reason


def test_blob_is_whole_when_its_chunks_come_in_any_order_and_twice() -> None:
    whole = assembly()

    for index in (4, 1, 1, 0, 3, 4, 2):
        assert not whole.complete
        whole.add(chunk(index), index)

    assert whole.complete
    assert bytes(whole.blob()) == BLOB


def test_next_wanted_is_the_first_gap_when_some_chunks_are_there() -> None:
    whole = assembly()
    assert whole.next_wanted() == (0, 4)
    for index in (0, 3):
        whole.add(chunk(index), index)

    assert whole.next_wanted() == (1, 2)
    assert whole.next_wanted(window=1) == (1, 1)
    for index in (1, 2):
        whole.add(chunk(index), index)
    assert whole.next_wanted() == (4, 1)
    whole.add(chunk(4), 4)
    assert whole.next_wanted() == (0, 0)


@pytest.mark.parametrize(
    ("payload", "index", "reason"),
    [
        (chunk(1, sha256=OTHER), 1, Reason.WRONG_DIGEST),
        (chunk(1), 2, Reason.MALFORMED),
        (chunk(0, BLOB[:1000]), 0, Reason.WRONG_SHAPE),
        (chunk(4, BLOB + b"x"), 4, Reason.WRONG_SHAPE),
        (chunk(5, BLOB + bytes(CHUNK_BYTES)), 5, Reason.WRONG_SHAPE),
        (b"", 0, Reason.MALFORMED),
        (chunk(0)[:-1], 0, Reason.MALFORMED),
        (encode({"other": np.zeros(1024, np.uint8)}, wire.encode(ChunkHeader(blob_sha256=SHA256, index=0))), 0, "mal"),
        (encode({"chunk": np.zeros(1024, np.int8)}, wire.encode(ChunkHeader(blob_sha256=SHA256, index=0))), 0, "shape"),
    ],
)
def test_chunk_is_refused_when_it_is_not_the_one_wanted(payload: bytes, index: int, reason: str) -> None:
    whole = assembly()

    assert reason in refusal(whole, payload, index)

    assert whole.next_wanted(99) == (0, 5)


def test_assembly_starts_anew_when_the_whole_has_another_hash() -> None:
    whole = Assembly(len(BLOB), CHUNK_BYTES, OTHER)
    for index in range(5):
        whole.add(chunk(index, sha256=OTHER), index)

    with pytest.raises(PayloadError) as caught:
        whole.blob()

    assert caught.value.reason is Reason.WRONG_DIGEST
    assert not whole.complete
    assert whole.next_wanted(99) == (0, 5)


def test_assembly_is_refused_when_it_would_have_more_chunks_than_there_are_numbers() -> None:
    with pytest.raises(PayloadError) as caught:
        Assembly(2**40, CHUNK_BYTES, SHA256)

    assert caught.value.reason is Reason.TOO_LARGE


# -- when to ask


def fetch(size_bytes: int = len(BLOB)) -> Fetch:
    return Fetch(size_bytes, CHUNK_BYTES, SHA256)


def test_fetch_asks_for_one_then_two_then_four_chunks_when_they_come() -> None:
    one = Fetch(20 * CHUNK_BYTES, CHUNK_BYTES, SHA256)
    questions = []
    blob = bytes(20 * CHUNK_BYTES)

    for _ in range(4):
        question = one.question(now_s=5.0)
        assert question is not None
        questions.append(question)
        assert one.question(now_s=5.0) is None
        for index in range(question[0], sum(question)):
            one.add(chunk(index, blob), index, now_s=5.1)

    assert questions == [(0, 1), (1, 2), (3, 4), (7, 4)]


def test_fetch_asks_again_with_doubling_waits_when_nothing_comes() -> None:
    one, now_s, waits = fetch(), 0.0, []

    for _ in range(8):
        assert one.question(now_s) == (0, 1)
        waits.append(one.due_at_s - now_s)
        now_s = one.due_at_s

    assert [round(wait / waits[0]) for wait in waits] == [1, 2, 4, 8, 16, 16, 16, 16]
    assert waits[0] == pytest.approx(chunks.RETRY_S, rel=0.01)
    assert one.unanswered == 7


def test_fetch_waits_four_times_as_long_as_the_last_chunks_took_when_the_line_is_slow() -> None:
    one = fetch()
    one.question(0.0)
    one.question(one.due_at_s)  # a repetition that was not needed
    one.add(chunk(0), 0, now_s=60.0)

    assert one.due_at_s == -math.inf
    assert one.question(60.0) == (1, 2)
    assert one.due_at_s - 60.0 >= chunks.RETRY_S + 4 * 60.0


def test_fetch_asks_at_once_for_what_is_missing_when_the_connection_was_lost() -> None:
    one = fetch()
    one.question(0.0)
    one.add(chunk(0), 0, 0.1)
    one.question(0.1)

    one.ask_again()

    assert one.question(0.2) == (1, 1)
    assert one.unanswered == 0


def test_fetch_has_nothing_to_ask_when_it_is_complete() -> None:
    one = fetch()
    while (question := one.question(0.0)) is not None:
        for index in range(question[0], sum(question)):
            one.add(chunk(index), index, 0.0)

    assert one.complete
    assert bytes(one.blob(0.0)) == BLOB


def test_fetch_waits_before_it_starts_again_when_the_whole_has_another_hash() -> None:
    one = Fetch(CHUNK_BYTES, CHUNK_BYTES, OTHER)
    one.question(0.0)
    one.add(chunk(0, BLOB[:CHUNK_BYTES], OTHER), 0, 0.0)

    with pytest.raises(PayloadError):
        one.blob(1.0)

    assert one.question(1.0) is None
    assert one.due_at_s >= 1.0 + chunks.RETRY_S
    assert one.question(one.due_at_s) == (0, 1)


def test_fetch_goes_on_waiting_when_a_chunk_comes_that_was_not_asked_for() -> None:
    one = fetch()
    one.question(0.0)
    due_at_s = one.due_at_s

    one.add(chunk(3), 3, 1.0)

    assert one.due_at_s == due_at_s


class Memory:
    """The peak of what Python and NumPy allocated since `watched` began, in bytes."""

    peak_bytes = 0


@contextmanager
def watched() -> Iterator[Memory]:
    memory = Memory()
    tracemalloc.start()
    try:
        yield memory
        memory.peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


LARGE: Weights = {"fc.weight": np.arange(4_000_000, dtype=np.float32)}
LARGE_CHUNK_BYTES = 1024 * 1024


def test_receiver_holds_one_copy_of_the_model_and_a_chunk_and_no_more() -> None:
    blob = encode(LARGE)
    sha256, size_bytes = hashlib.sha256(blob).hexdigest(), len(blob)

    with watched() as memory:
        fetch = Fetch(size_bytes, LARGE_CHUNK_BYTES, sha256)
        for index in range(chunks.num_chunks(size_bytes, LARGE_CHUNK_BYTES)):
            fetch.add(chunks.cut(blob, sha256, LARGE_CHUNK_BYTES, index, minor=1), index, 0.0)
        _, weights = decode(fetch.blob(0.0))
        assert digest(weights) == digest(LARGE)

    assert size_bytes <= memory.peak_bytes < size_bytes + 3 * LARGE_CHUNK_BYTES


def test_sender_makes_no_copy_of_a_blob_but_the_chunk_that_it_sends() -> None:
    blob = encode(LARGE)

    with watched() as memory:
        for index in range(chunks.num_chunks(len(blob), LARGE_CHUNK_BYTES)):
            chunks.cut(blob, SHA256, LARGE_CHUNK_BYTES, index, minor=1)

    assert LARGE_CHUNK_BYTES <= memory.peak_bytes < 3 * LARGE_CHUNK_BYTES
