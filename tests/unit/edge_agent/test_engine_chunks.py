"""Models and updates that travel in chunks: what is asked for, what is sent, and what is lost on the way."""

import hashlib

import numpy as np
import pytest

from edge_agent.events import (
    Announced,
    ChunkArrived,
    ChunksAsked,
    ConnectionGained,
    ConnectionLost,
    Event,
    ModelArrived,
    StartTraining,
    TrainingFinished,
)
from edge_agent.fetching import MODEL_WAIT_S
from edge_agent.polling import MAX_WAIT_S
from schemas import wire
from schemas.chunks import cut, num_chunks
from schemas.messages import AgentRequest, ChunksWanted, ModelOffer, RoundRef, UpdateOffer
from schemas.topics import Kind
from schemas.weights import Weights, decode, digest
from tests.unit.edge_agent.scripted import (
    MAX_PACKET_BYTES,
    RUN,
    Agent,
    accepted,
    announced,
    coordinator,
    model_blob,
    status,
)

CHUNK_BYTES = 1024
LARGE: Weights = {"w": np.arange(2000, dtype=np.float32)}
BLOB = model_blob(LARGE)
NUM_CHUNKS = num_chunks(len(BLOB), CHUNK_BYTES)
ROUND = RoundRef(run_id=RUN, round_number=1)


def chunk(index: int, blob: bytes = BLOB) -> ChunkArrived:
    return ChunkArrived(RUN, 1, index, cut(blob, hashlib.sha256(blob).hexdigest(), CHUNK_BYTES, index, 1))


def fetching() -> Agent:
    """An agent that has been told of a model in chunks."""
    agent = Agent()
    agent.take(announced(1, LARGE, chunk_bytes=CHUNK_BYTES, in_chunks=True))
    return agent


def asked_for(agent: Agent) -> list[int]:
    """The chunks that were just asked for."""
    return [index for request in agent.requests() for index in range(request.first, request.first + request.count)]


def answer(agent: Agent, but: int = -1) -> None:
    """Send what is asked for until nothing more is asked, or training starts; never chunk `but`."""
    wanted = asked_for(agent)
    while wanted:
        agent.take(*(chunk(index) for index in wanted if index != but))
        wanted = asked_for(agent)


def test_first_chunk_is_asked_for_when_the_round_is_announced() -> None:
    agent = fetching()

    assert agent.requests() == [AgentRequest(want="chunks", round=ROUND, first=0, count=1)]


def test_training_starts_when_the_last_chunk_is_there() -> None:
    agent = fetching()

    answer(agent)

    (start,) = agent.of(StartTraining)
    assert np.array_equal(start.weights["w"], LARGE["w"])


def test_only_what_is_missing_is_asked_for_again_when_a_chunk_is_lost() -> None:
    agent = fetching()
    answer(agent, but=2)
    assert agent.of(StartTraining) == []

    agent.wait(15.0)

    assert asked_for(agent) == [2]
    answer(agent)
    assert len(agent.of(StartTraining)) == 1


def test_only_what_is_missing_is_asked_for_when_the_connection_was_lost() -> None:
    agent = fetching()
    agent.take(chunk(0))
    agent.take(chunk(1))

    agent.take(ConnectionLost(), ConnectionGained(MAX_PACKET_BYTES), status())
    assert asked_for(agent) == []
    agent.take(announced(1, LARGE, chunk_bytes=CHUNK_BYTES, in_chunks=True))

    assert asked_for(agent) == [2]
    answer(agent)
    assert len(agent.of(StartTraining)) == 1


def test_what_is_missing_is_asked_for_soon_when_the_connection_was_lost_and_no_announcement_comes() -> None:
    agent = fetching()
    agent.take(chunk(0))
    agent.take(chunk(1))

    agent.take(ConnectionLost(), ConnectionGained(MAX_PACKET_BYTES), status())
    agent.wait(MODEL_WAIT_S)

    assert asked_for(agent) == [2]


@pytest.mark.parametrize(
    "seen",
    [(coordinator("2"),), (coordinator("1", "offline"), coordinator("1"))],
    ids=["resumed", "reconnected"],
)
def test_what_is_missing_is_asked_for_at_once_when_the_coordinator_was_away(seen: tuple[Event, ...]) -> None:
    agent = Agent()
    agent.take(coordinator("1"))
    again = announced(1, LARGE, chunk_bytes=CHUNK_BYTES, in_chunks=True)
    agent.take(again)
    agent.take(chunk(0))
    agent.take(chunk(1))

    agent.take(*seen)
    agent.take(again)
    assert asked_for(agent) == [2]

    agent.take(again)
    assert asked_for(agent) == []


def test_what_is_there_stays_when_the_round_is_announced_again() -> None:
    agent = fetching()
    agent.take(chunk(0))

    agent.take(announced(1, LARGE, chunk_bytes=CHUNK_BYTES, in_chunks=True, attempt=2))
    agent.take(chunk(1), chunk(2))

    assert asked_for(agent) == [3, 4, 5, 6]


def test_nothing_is_asked_for_while_what_was_asked_for_is_on_a_slow_line() -> None:
    agent = Agent()
    blob_bytes = 40 * 1024 * 1024
    offer = ModelOffer(sha256=digest(LARGE), size_bytes=blob_bytes, blob_sha256="0" * 64)
    small = announced(1, chunk_bytes=8 * 1024 * 1024)
    agent.take(Announced(small.announcement.model_copy(update={"model": offer}), small.minor))

    # A chunk of 8 MiB takes longer than ten seconds on a line of half a megabyte per second.
    agent.wait(17.0)

    assert asked_for(agent) == []


def test_chunks_are_asked_for_with_growing_waits_when_nobody_answers() -> None:
    agent = fetching()

    agent.wait(1000.0)

    questions = [request for request in agent.requests() if request.want == "chunks"]
    assert 5 < len(questions) < 20
    assert {request.first for request in questions} == {0}


def test_chunk_of_another_blob_is_refused_and_the_right_one_is_still_asked_for() -> None:
    agent = fetching()

    agent.take(chunk(0, b"another blob" * 500))

    assert "wrong-digest" in agent.told()
    agent.wait(15.0)
    assert asked_for(agent) == [0]


def test_model_is_fetched_anew_after_a_wait_when_its_hash_is_wrong() -> None:
    agent = fetching()
    wrong = b"x" * len(BLOB)
    pretended = hashlib.sha256(BLOB).hexdigest()
    wanted = asked_for(agent)
    while wanted:
        agent.take(*(ChunkArrived(RUN, 1, i, cut(wrong, pretended, CHUNK_BYTES, i, 1)) for i in wanted))
        wanted = asked_for(agent)

    assert "wrong-digest" in agent.told()
    assert agent.of(StartTraining) == []
    agent.wait(60.0)
    assert asked_for(agent)[0] == 0
    agent.take(chunk(0))
    answer(agent)
    assert len(agent.of(StartTraining)) == 1


def test_round_is_given_up_when_the_model_in_chunks_is_not_the_announced_one() -> None:
    # Its hash is right and its weights are not: asking again would bring the same bytes.
    agent = Agent()
    small = announced(1, LARGE, chunk_bytes=CHUNK_BYTES, in_chunks=True)
    offer = small.announcement.model.model_copy(update={"sha256": "0" * 64})
    agent.take(Announced(small.announcement.model_copy(update={"model": offer}), small.minor))

    answer(agent)

    assert "wrong-digest" in agent.told()
    agent.wait(15.0)
    assert agent.requests() == []


def test_whole_model_is_taken_when_it_comes_while_chunks_are_on_their_way() -> None:
    agent = fetching()
    agent.take(chunk(0))

    agent.take(ModelArrived(RUN, 1, BLOB), chunk(1))

    assert len(agent.of(StartTraining)) == 1


@pytest.mark.parametrize("size_bytes", [2**48, 1024 * 1_000_002])
def test_round_is_given_up_when_the_model_has_no_room(size_bytes: int) -> None:
    agent = Agent()
    small = announced(1, chunk_bytes=CHUNK_BYTES)
    offer = ModelOffer(sha256=digest(LARGE), size_bytes=size_bytes, blob_sha256="0" * 64)

    agent.take(Announced(small.announcement.model_copy(update={"model": offer}), small.minor))

    assert "no room" in agent.told()
    (request,) = agent.requests()
    assert request.failed is not None
    assert "no room" in request.failed.detail


# -- updates


def with_large_update() -> Agent:
    agent = Agent()
    agent.take(announced(chunk_bytes=CHUNK_BYTES), ModelArrived(RUN, 1, model_blob({"w": np.full(3, 1, np.float32)})))
    agent.take(TrainingFinished(RUN, 1, LARGE, 7, 1, 0.5))
    return agent


def wanted(first: int, count: int, round_number: int = 1) -> ChunksAsked:
    return ChunksAsked(ChunksWanted(run_id=RUN, round_number=round_number, first=first, count=count))


def update_of(agent: Agent) -> bytes:
    assert agent.engine.pending is not None
    return bytes(agent.engine.pending.blob)


def test_update_is_offered_when_it_is_larger_than_a_chunk() -> None:
    agent = with_large_update()

    (message,) = agent.sent(Kind.OFFER)
    blob = update_of(agent)
    offer = wire.decode(message.payload, UpdateOffer).message
    assert (offer.size_bytes, offer.sha256) == (len(blob), hashlib.sha256(blob).hexdigest())
    assert agent.sent(Kind.UPDATE) == []


def test_chunks_of_the_update_are_its_bytes() -> None:
    agent = with_large_update()
    blob = update_of(agent)

    agent.take(wanted(0, 64))

    chunks = agent.sent(Kind.UPDATE_CHUNK)
    assert [message.address.index for message in chunks] == list(range(num_chunks(len(blob), CHUNK_BYTES)))
    assert b"".join(decode(message.payload)[1]["chunk"].tobytes() for message in chunks) == blob


@pytest.mark.parametrize("question", [wanted(1000, 4), wanted(0, 4, round_number=2)], ids=["beyond", "other round"])
def test_no_chunk_is_sent_when_there_is_none(question: ChunksAsked) -> None:
    agent = with_large_update()

    agent.take(question)

    assert agent.sent(Kind.UPDATE_CHUNK) == []


def test_same_chunk_is_sent_when_it_is_asked_for_again() -> None:
    agent = with_large_update()
    first = [message.payload for message in agent.take(wanted(2, 1)) if hasattr(message, "payload")]

    assert [message.payload for message in agent.take(wanted(2, 1)) if hasattr(message, "payload")] == first


def test_update_is_offered_again_only_after_a_long_silence_when_chunks_are_being_fetched() -> None:
    agent = with_large_update()
    agent.take(wanted(0, 1))

    agent.wait(MAX_WAIT_S - 1.0)
    assert agent.sent(Kind.OFFER) == []
    agent.wait(1.0)
    assert len(agent.sent(Kind.OFFER)) == 1


def test_update_is_offered_again_when_the_connection_was_lost() -> None:
    agent = with_large_update()
    agent.take(wanted(0, 1))

    agent.reconnect()
    agent.take(announced(chunk_bytes=CHUNK_BYTES))

    assert len(agent.sent(Kind.OFFER)) == 1


def test_nothing_more_is_sent_when_the_receipt_came() -> None:
    agent = with_large_update()
    agent.take(wanted(0, 64))

    agent.take(accepted())

    agent.wait(1000.0)
    assert agent.sent(Kind.OFFER) == []
