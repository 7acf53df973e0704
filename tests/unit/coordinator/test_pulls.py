"""Updates are fetched one after another, and nobody holds up the others for long."""

import hashlib
import math

import pytest

from coordinator.pulls import LEAST_BYTES_PER_S, MAX_RETRIES, TURN_S, Pulls
from schemas import chunks
from schemas.errors import PayloadError, Reason
from schemas.messages import UpdateOffer

CHUNK_BYTES = 1024
BLOB = bytes(range(256)) * 20  # five chunks


def offer(blob: bytes = BLOB) -> UpdateOffer:
    return UpdateOffer(size_bytes=len(blob), sha256=hashlib.sha256(blob).hexdigest())


def chunk(index: int, blob: bytes = BLOB) -> bytes:
    return chunks.cut(blob, hashlib.sha256(blob).hexdigest(), CHUNK_BYTES, index, 1)


def test_offered_update_is_complete_after_its_last_chunk() -> None:
    pulls = Pulls(CHUNK_BYTES)
    pulls.offer("a", offer())
    assert pulls.question(0.0) == ("a", 0, 1)
    assert pulls.add("a", 0, chunk(0), 0.0) is None
    assert pulls.question(0.0) == ("a", 1, 2)
    for index in (1, 2):
        assert pulls.add("a", index, chunk(index), 0.0) is None
    assert pulls.question(0.0) == ("a", 3, 2)
    assert pulls.add("a", 4, chunk(4), 0.0) is None
    fetch = pulls.add("a", 3, chunk(3), 0.0)
    assert fetch is not None
    assert bytes(fetch.blob(0.0)) == BLOB
    assert pulls.due_at_s == math.inf


def test_second_offer_waits_for_its_turn() -> None:
    pulls = Pulls(CHUNK_BYTES)
    pulls.offer("a", offer())
    pulls.offer("b", offer())
    assert pulls.question(0.0) == ("a", 0, 1)
    assert pulls.add("b", 0, chunk(0), 0.0) is None
    pulls.drop("a")
    assert pulls.question(0.0) == ("b", 0, 1)


def test_offers_are_fetched_in_their_order() -> None:
    pulls = Pulls(CHUNK_BYTES)
    for agent_id in "cab":
        pulls.offer(agent_id, offer())
    pulls.offer("c", offer())
    complete = []
    while (question := pulls.question(0.0)) is not None:
        agent_id, first, count = question
        complete += [agent_id for i in range(first, first + count) if pulls.add(agent_id, i, chunk(i), 0.0) is not None]
    assert complete == ["c", "a", "b"]


def test_agent_that_does_not_answer_loses_its_turn_when_others_wait() -> None:
    pulls = Pulls(CHUNK_BYTES)
    pulls.offer("dead", offer())
    pulls.offer("b", offer())
    now_s, asked = 0.0, []
    while (question := pulls.question(now_s)) is not None and question[0] == "dead":
        asked.append(question)
        assert pulls.question(now_s) is None
        assert pulls.due_at_s > now_s
        now_s = pulls.due_at_s
    assert question == ("b", 0, 1)
    assert asked == [("dead", 0, 1)] * 3  # after 10, 20 and 40 s, a minute is over


def test_agent_with_much_to_send_loses_its_turn_after_some_unanswered_questions() -> None:
    pulls = Pulls(CHUNK_BYTES)
    pulls.offer("dead", UpdateOffer(size_bytes=10**9, sha256="0" * 64))
    pulls.offer("b", offer())
    now_s, asked = 0.0, 0
    while (question := pulls.question(now_s)) is not None and question[0] == "dead":
        asked += 1
        now_s = pulls.due_at_s
    assert asked == 1 + MAX_RETRIES


def test_agent_that_does_not_answer_keeps_what_it_has_sent_when_nobody_waits() -> None:
    pulls = Pulls(CHUNK_BYTES)
    pulls.offer("a", offer())
    pulls.question(0.0)
    pulls.add("a", 0, chunk(0), 0.0)
    now_s = 0.0
    for _ in range(20):
        assert pulls.question(now_s) in (("a", 1, 2), ("a", 1, 1))
        now_s = pulls.due_at_s


def test_agent_that_trickles_loses_its_turn_when_others_wait() -> None:
    pulls = Pulls(CHUNK_BYTES)
    blob = bytes(200 * CHUNK_BYTES)
    pulls.offer("slow", offer(blob))
    pulls.offer("b", offer())
    now_s = 0.0
    while (question := pulls.question(now_s)) is not None and question[0] == "slow":
        for index in range(question[1], question[1] + question[2]):
            now_s += 5.0
            pulls.add("slow", index, chunk(index, blob), now_s)
    assert question == ("b", 0, 1)
    assert now_s <= TURN_S + len(blob) / LEAST_BYTES_PER_S + 4 * 5.0


def test_only_what_is_missing_is_asked_for_at_once_when_the_agent_offers_again() -> None:
    pulls = Pulls(CHUNK_BYTES)
    pulls.offer("a", offer())
    pulls.question(0.0)
    pulls.add("a", 0, chunk(0), 0.0)
    pulls.question(0.0)
    pulls.offer("a", offer())
    assert pulls.question(0.1) == ("a", 1, 1)


def test_only_what_is_missing_is_asked_for_at_once_when_the_connection_was_lost() -> None:
    pulls = Pulls(CHUNK_BYTES)
    pulls.offer("a", offer())
    pulls.question(0.0)
    pulls.add("a", 0, chunk(0), 0.0)
    pulls.question(0.0)
    pulls.ask_again()
    assert pulls.question(0.1) == ("a", 1, 1)


def test_another_offer_of_the_same_agent_takes_the_place_of_the_first() -> None:
    pulls = Pulls(CHUNK_BYTES)
    pulls.offer("a", offer())
    pulls.question(0.0)
    pulls.offer("a", offer(BLOB[::-1]))
    assert pulls.question(0.0) == ("a", 0, 1)
    with pytest.raises(PayloadError):
        pulls.add("a", 0, chunk(0), 0.0)
    assert pulls.add("a", 0, chunk(0, BLOB[::-1]), 0.0) is None


def test_damaged_chunk_is_refused_and_the_update_still_comes() -> None:
    pulls = Pulls(CHUNK_BYTES)
    pulls.offer("a", offer())
    pulls.question(0.0)
    with pytest.raises(PayloadError) as refused:
        pulls.add("a", 0, chunk(0, BLOB[::-1]), 0.0)
    assert refused.value.reason is Reason.WRONG_DIGEST
    assert pulls.add("a", 0, chunk(0), 0.0) is None


def test_offer_of_more_chunks_than_there_are_numbers_is_refused() -> None:
    with pytest.raises(PayloadError) as refused:
        Pulls(CHUNK_BYTES).offer("a", UpdateOffer(size_bytes=2**40, sha256="0" * 64))
    assert refused.value.reason is Reason.TOO_LARGE


def test_nothing_is_due_when_nothing_was_offered() -> None:
    pulls = Pulls(CHUNK_BYTES)
    pulls.ask_again()
    assert pulls.question(0.0) is None
    assert pulls.due_at_s == math.inf
