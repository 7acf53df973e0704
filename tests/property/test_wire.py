"""Every message survives the way to any minor and back; whatever else arrives is refused and nothing worse."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.inbox import Inbox as CoordinatorInbox
from edge_agent.inbox import Inbox as AgentInbox
from schemas import messages, wire
from schemas.errors import PayloadError, Reason
from schemas.identifiers import IDENTIFIER_PATTERN
from schemas.messages import WireMessage
from schemas.topics import Address, Kind, Topics
from schemas.versions import CURRENT

TOPICS = Topics()
IDS = st.from_regex(IDENTIFIER_PATTERN.replace("$", r"\Z"))
SHA256S = st.from_regex(r"\A[0-9a-f]{64}\Z")
PREFIXES = st.from_regex(r"\A[0-9a-f]{16}\Z")
ROUNDS = st.integers(0, 1_000_000)
COUNTS = st.integers(0, 2**48)
SECONDS = st.floats(0, 1e9)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
CODECS = TEXTS.filter(bool)
ROUND_REFS = st.builds(messages.RoundRef, run_id=IDS, round_number=ROUNDS)
REPORTED = st.lists(ROUNDS, max_size=16).map(tuple)

PLANS = st.builds(
    messages.TrainingPlan,
    model=CODECS,
    local_batches=st.integers(1, 1_000_000),
    batch_size=st.integers(1, 1_000_000),
    learning_rate=st.floats(1e-6, 1e6),
    seed=st.integers(0, 2**63 - 1),
    strategy=TEXTS,
    options=st.dictionaries(TEXTS, st.floats(allow_nan=False, allow_infinity=False), max_size=3),
)
MESSAGES: dict[type[WireMessage], st.SearchStrategy[Any]] = {
    messages.AgentStatus: st.builds(
        messages.AgentStatus,
        v=st.just(CURRENT.text),
        state=st.sampled_from(["online", "offline"]),
        instance=TEXTS,
        codecs=st.lists(CODECS, max_size=4).map(tuple),
    ),
    messages.AgentRequest: st.builds(
        messages.AgentRequest,
        v=st.just(CURRENT.text),
        want=st.sampled_from(["state", "model", "chunks", "whole"]),
        round=st.none() | ROUND_REFS,
        first=COUNTS,
        count=st.integers(0, 64),
        codecs=st.none() | st.lists(CODECS, max_size=4).map(tuple),
        holds=st.none() | SHA256S,
        failed=st.none()
        | st.builds(
            messages.RoundFailure, run_id=IDS, round_number=ROUNDS, attempt=st.integers(1, 10_000), detail=TEXTS
        ),
    ),
    messages.RoundAnnouncement: st.builds(
        messages.RoundAnnouncement,
        v=st.just(CURRENT.text),
        run_id=IDS,
        round_number=ROUNDS,
        attempt=st.integers(1, 10_000),
        deadline_s=SECONDS,
        last_accepted_round=ROUNDS,
        recorded_reports=REPORTED,
        chunk_bytes=st.integers(1024, 2**28),
        max_update_bytes=COUNTS,
        plan=PLANS,
        model=st.builds(messages.ModelOffer, sha256=SHA256S, size_bytes=COUNTS, blob_sha256=st.none() | SHA256S),
        codec=st.none() | CODECS,
    ),
    messages.Standing: st.builds(
        messages.Standing,
        v=st.just(CURRENT.text),
        phase=st.sampled_from(["waiting", "finished", "aborted"]),
        run_id=IDS,
        closed_round=ROUNDS,
        last_accepted_round=ROUNDS,
        recorded_reports=REPORTED,
        detail=st.none() | TEXTS,
    ),
    messages.Receipt: st.builds(
        messages.Receipt,
        v=st.just(CURRENT.text),
        run_id=IDS,
        round_number=ROUNDS,
        outcome=st.sampled_from(["accepted", "refused"]),
        reason=st.none() | st.sampled_from(list(Reason)),
        detail=st.none() | TEXTS,
    ),
    messages.UpdateOffer: st.builds(messages.UpdateOffer, v=st.just(CURRENT.text), size_bytes=COUNTS, sha256=SHA256S),
    messages.ChunksWanted: st.builds(
        messages.ChunksWanted,
        v=st.just(CURRENT.text),
        run_id=IDS,
        round_number=ROUNDS,
        first=COUNTS,
        count=st.integers(1, 64),
    ),
    messages.CoordinatorStatus: st.builds(
        messages.CoordinatorStatus,
        v=st.just(CURRENT.text),
        state=st.sampled_from(["online", "offline"]),
        session=TEXTS,
        claim=st.booleans(),
        run_id=st.none() | IDS,
    ),
    messages.BlobHeader: st.builds(
        messages.BlobHeader,
        v=st.just(CURRENT.text),
        kind=st.sampled_from(["model", "update"]),
        run_id=IDS,
        round_number=ROUNDS,
        sender=IDS,
        base_sha256=SHA256S,
        num_examples=COUNTS,
        num_batches=COUNTS,
        loss=st.none() | st.floats(-1e30, 1e30),
        codec=st.none() | CODECS,
    ),
    messages.DifferenceHeader: st.builds(
        messages.DifferenceHeader,
        v=st.just(CURRENT.text),
        codec=CODECS,
        base=PREFIXES,
        to=st.none() | PREFIXES,
        num_examples=st.none() | COUNTS,
        num_batches=st.none() | COUNTS,
        loss=st.none() | st.integers(-1000, 1000).map(float),
    ),
    messages.RoundCall: st.builds(
        messages.RoundCall,
        v=st.just(CURRENT.text),
        run_id=IDS,
        round_number=ROUNDS,
        attempt=st.integers(1, 10_000),
        deadline_s=SECONDS,
        last_accepted_round=ROUNDS,
        recorded_reports=st.lists(ROUNDS, max_size=16).map(tuple),
        terms=PREFIXES,
        sha256=SHA256S,
        base=PREFIXES,
    ),
    messages.BriefReport: st.builds(
        messages.BriefReport,
        v=st.just(CURRENT.text),
        values=st.lists(COUNTS | st.booleans() | st.none(), min_size=13, max_size=15).map(tuple),
    ),
    messages.ChunkHeader: st.builds(
        messages.ChunkHeader, v=st.just(CURRENT.text), blob_sha256=SHA256S, index=st.integers(0, 1_000_000)
    ),
}
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("kind", list(MESSAGES), ids=lambda kind: kind.__name__)
@given(data=st.data())
@settings(max_examples=50)
def test_message_comes_back_unchanged_when_the_reader_has_our_version(kind: type[WireMessage], data: Any) -> None:
    message = data.draw(MESSAGES[kind])

    decoded = wire.decode(wire.encode(message), kind)

    assert decoded.message == message
    assert decoded.ignored_fields == 0


@pytest.mark.parametrize("kind", list(MESSAGES), ids=lambda kind: kind.__name__)
@given(data=st.data())
@settings(max_examples=25)
def test_message_is_read_without_loss_when_it_was_written_for_minor_0(kind: type[WireMessage], data: Any) -> None:
    payload = wire.encode(data.draw(MESSAGES[kind]), minor=0)

    decoded = wire.decode(payload, kind)

    assert wire.encode(decoded.message, minor=0) == payload


@pytest.mark.parametrize("kind", list(MESSAGES), ids=lambda kind: kind.__name__)
@given(data=st.data(), unknown=st.dictionaries(st.text("xyz", min_size=2, max_size=5), ANY_JSON, min_size=1))
@settings(max_examples=25)
def test_unknown_fields_change_nothing_when_they_come_in_a_newer_minor(
    kind: type[WireMessage], data: Any, unknown: dict[str, Any]
) -> None:
    message = data.draw(MESSAGES[kind])
    body = json.loads(wire.encode(message)) | {"v": f"1.{CURRENT.minor + 1}"} | unknown

    decoded = wire.decode(json.dumps(body).encode(), kind)

    assert decoded.ignored_fields == len(unknown)
    assert decoded.message.model_copy(update={"v": message.v}) == message


@given(payload=st.binary(max_size=200) | ANY_JSON.map(lambda body: json.dumps(body).encode()))
@pytest.mark.parametrize("kind", list(MESSAGES), ids=lambda kind: kind.__name__)
@settings(max_examples=60, suppress_health_check=[HealthCheck.differing_executors])
def test_anything_else_is_refused(kind: type[WireMessage], payload: bytes) -> None:
    with pytest.raises(PayloadError):
        wire.decode(payload, kind)


@pytest.mark.parametrize("kind", list(MESSAGES), ids=lambda kind: kind.__name__)
@given(data=st.data(), value=ANY_JSON | st.floats() | st.integers(2**62, 2**80) | st.text(min_size=501, max_size=600))
@settings(max_examples=50)
def test_message_with_any_value_in_any_field_is_read_and_written_again_or_refused(
    kind: type[WireMessage], data: Any, value: Any
) -> None:
    body = json.loads(wire.encode(data.draw(MESSAGES[kind])))
    place = body
    name = data.draw(st.sampled_from(sorted(place)))
    while isinstance(place[name], dict) and place[name] and data.draw(st.booleans()):
        place = place[name]
        name = data.draw(st.sampled_from(sorted(place)))
    place[name] = value

    try:
        decoded = wire.decode(json.dumps(body).encode(), kind)
    except PayloadError:
        return
    written = wire.encode(decoded.message)
    assert wire.encode(wire.decode(written, kind).message) == written


ADDRESSES = st.builds(
    Address,
    kind=st.sampled_from(list(Kind)),
    agent_id=IDS,
    run_id=IDS,
    round_number=ROUNDS,
    index=st.integers(0, 1_000_000),
)


@given(ADDRESSES)
def test_topic_leads_back_to_its_address(address: Address) -> None:
    parsed = TOPICS.parse(TOPICS.build(address))

    assert parsed is not None
    assert TOPICS.build(parsed) == TOPICS.build(address)


PIECES = st.text(max_size=8) | st.sampled_from(["+", "#", "$SYS", "..", "-1", "01", "1e3", "1000001", "x" * 64, "\0"])


@given(ADDRESSES, st.lists(st.tuples(st.integers(0, 9), PIECES), min_size=1, max_size=3))
def test_topic_with_other_pieces_is_read_as_what_it_says_or_not_at_all(
    address: Address, pieces: list[tuple[int, str]]
) -> None:
    levels = TOPICS.build(address).split("/")
    for at, piece in pieces:
        levels[at % len(levels)] = piece
    topic = "/".join(levels)

    parsed = TOPICS.parse(topic)

    assert parsed is None or TOPICS.build(parsed) == topic
    TOPICS.sender(topic)


@given(
    topic=st.text(max_size=60) | ADDRESSES.map(TOPICS.build), payload=st.binary(max_size=100), retained=st.booleans()
)
def test_inboxes_never_raise_whatever_arrives_on_whatever_topic(topic: str, payload: bytes, retained: bool) -> None:
    CoordinatorInbox(TOPICS).read(topic, payload, retained=retained)
    AgentInbox(TOPICS, "room-1").read(topic, payload, retained=retained)
