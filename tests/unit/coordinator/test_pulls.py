"""Updates are fetched one after another, and an agent that does not answer loses its turn."""

import hashlib

import pytest

from coordinator.pulls import MAX_RETRIES, RETRY_S, Pulls
from schemas import chunks
from schemas.errors import PayloadError, Reason
from schemas.messages import UpdateOffer

CHUNK_BYTES = 1024
BLOB = bytes(range(256)) * 20


def offer(blob: bytes = BLOB) -> UpdateOffer:
    return UpdateOffer(size_bytes=len(blob), sha256=hashlib.sha256(blob).hexdigest())


def chunk(index: int, blob: bytes = BLOB) -> bytes:
    return chunks.cut(blob, hashlib.sha256(blob).hexdigest(), CHUNK_BYTES, index, 1)


def test_offered_update_is_complete_after_its_last_chunk() -> None:
    pulls = Pulls(CHUNK_BYTES)
    pulls.offer("a", offer())
    assert pulls.due(0.0) == ("a", 0, 4)
    assert [pulls.add("a", index, chunk(index)) for index in range(4)] == [None] * 4
    assert pulls.due(0.0) == ("a", 4, 1)
    blob = pulls.add("a", 4, chunk(4))
    assert blob is not None
    assert bytes(blob) == BLOB


def test_second_offer_waits_for_its_turn() -> None:
    pulls = Pulls(CHUNK_BYTES)
    pulls.offer("a", offer())
    pulls.offer("b", offer())
    assert pulls.due(0.0) == ("a", 0, 4)
    assert pulls.add("b", 0, chunk(0)) is None
    pulls.drop("a")
    assert pulls.due(0.0) == ("b", 0, 4)


def test_agent_that_does_not_answer_loses_its_turn() -> None:
    pulls = Pulls(CHUNK_BYTES)
    pulls.offer("dead", offer())
    pulls.offer("b", offer())
    now_s = 0.0
    for _ in range(1 + MAX_RETRIES):
        assert pulls.due(now_s) == ("dead", 0, 4)
        assert pulls.due(now_s) is None
        now_s += RETRY_S
        pulls_at_s = pulls.wake_at_s
        assert pulls_at_s == now_s
    assert pulls.due(now_s) == ("dead", 0, 4)
    assert pulls.due(now_s + RETRY_S) == ("b", 0, 4)


def test_damaged_chunk_is_refused_and_the_update_still_comes() -> None:
    pulls = Pulls(CHUNK_BYTES)
    pulls.offer("a", offer())
    pulls.due(0.0)
    with pytest.raises(PayloadError) as refused:
        pulls.add("a", 0, chunk(0, BLOB[::-1]))
    assert refused.value.reason is Reason.WRONG_DIGEST
    assert pulls.add("a", 0, chunk(0)) is None


def test_offer_of_more_chunks_than_there_are_numbers_is_refused() -> None:
    with pytest.raises(PayloadError) as refused:
        Pulls(CHUNK_BYTES).offer("a", UpdateOffer(size_bytes=2**40, sha256="0" * 64))
    assert refused.value.reason is Reason.TOO_LARGE


def test_nothing_is_due_when_nothing_was_offered() -> None:
    pulls = Pulls(CHUNK_BYTES)
    assert pulls.due(0.0) is None
    assert pulls.wake_at_s is None
