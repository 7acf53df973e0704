"""Messages become events; what cannot be read becomes a refusal and never an exception."""

import pytest

from coordinator.events import (
    AgentAsked,
    AgentSeen,
    ChunkArrived,
    CoordinatorSeen,
    FieldsIgnored,
    MessageRefused,
    ReportArrived,
    UpdateArrived,
    UpdateOffered,
)
from coordinator.inbox import Inbox
from schemas import wire
from schemas.errors import Reason
from schemas.messages import AgentRequest, AgentStatus, CoordinatorStatus, UpdateOffer, WireMessage
from schemas.topics import Address, Kind, Topics
from tests.unit.coordinator.test_engine_refusals import REPORT

TOPICS = Topics()
INBOX = Inbox(TOPICS)


@pytest.mark.parametrize(
    ("kind", "message", "event"),
    [
        (Kind.STATUS, AgentStatus(state="online", instance="1"), AgentSeen),
        (Kind.REQUEST, AgentRequest(want="state"), AgentAsked),
        (Kind.OFFER, UpdateOffer(size_bytes=1, sha256="0" * 64), UpdateOffered),
        (Kind.REPORT, REPORT, ReportArrived),
        (Kind.COORDINATOR_STATUS, CoordinatorStatus(state="online", session="1"), CoordinatorSeen),
    ],
)
def test_message_becomes_its_event(kind: Kind, message: WireMessage, event: type) -> None:
    topic = TOPICS.build(Address(kind, "a", "run-1", 3))
    assert [type(read) for read in INBOX.read(topic, wire.encode(message), retained=False)] == [event]


@pytest.mark.parametrize(("kind", "event"), [(Kind.UPDATE, UpdateArrived), (Kind.UPDATE_CHUNK, ChunkArrived)])
def test_blob_is_not_opened_here(kind: Kind, event: type) -> None:
    topic = TOPICS.build(Address(kind, "a", "run-1", 3, 5))
    (read,) = INBOX.read(topic, b"anything", retained=False)
    assert type(read) is event


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("fl/v1/nonsense", b"", Reason.UNKNOWN_TOPIC),
        ("fl/v1/agents/a/inbox/receipt", b"{}", Reason.UNKNOWN_TOPIC),
        ("fl/v1/agents/a/status", b"not JSON", Reason.MALFORMED),
        ("fl/v1/agents/a/status", b'{"v":"2.0"}', Reason.UNSUPPORTED_VERSION),
        ("fl/v1/agents/a/status", b'{"v":"1.1","state":"online","instance":"1","x":1}', Reason.UNEXPECTED_FIELD),
        ("fl/v1/agents/a/status", b" " * 20000, Reason.TOO_LARGE),
    ],
)
def test_unreadable_message_becomes_a_refusal(topic: str, payload: bytes, reason: Reason) -> None:
    (read,) = INBOX.read(topic, payload, retained=False)
    assert isinstance(read, MessageRefused)
    assert read.reason is reason


def test_fields_of_a_newer_minor_are_counted() -> None:
    payload = b'{"v":"1.9","state":"online","instance":"1","x":1,"y":2}'
    assert INBOX.read("fl/v1/agents/a/status", payload, retained=False)[1:] == [FieldsIgnored(2)]


def test_retained_message_that_is_cleared_means_nothing() -> None:
    assert INBOX.read("fl/v1/agents/a/status", b"", retained=True) == []
