"""Turns messages into the round engine's events; anything that cannot be read becomes a refusal."""

from coordinator.events import (
    AgentAsked,
    AgentSeen,
    ChunkArrived,
    CoordinatorSeen,
    Event,
    FieldsIgnored,
    MessageRefused,
    ReportArrived,
    UpdateArrived,
    UpdateOffered,
)
from schemas import wire
from schemas.errors import PayloadError, Reason
from schemas.messages import (
    AgentReport,
    AgentRequest,
    AgentStatus,
    CoordinatorStatus,
    UpdateOffer,
    WireMessage,
)
from schemas.topics import Address, Kind, Topics

_MESSAGES: dict[Kind, type[WireMessage]] = {
    Kind.STATUS: AgentStatus,
    Kind.REQUEST: AgentRequest,
    Kind.OFFER: UpdateOffer,
    Kind.REPORT: AgentReport,
    Kind.COORDINATOR_STATUS: CoordinatorStatus,
}


class Inbox:
    """Reads what the coordinator receives.

    Args:
        topics: of this federation.
    """

    def __init__(self, topics: Topics) -> None:
        self._topics = topics

    def read(self, topic: str, payload: bytes | memoryview, *, retained: bool) -> list[Event]:
        """The events that a message is: usually one; one more when it held fields that were ignored."""
        address = self._topics.parse(topic)
        if address is None:
            return [MessageRefused(self._topics.sender(topic), Reason.UNKNOWN_TOPIC, topic[:200])]
        if not payload and (retained or address.kind in (Kind.STATUS, Kind.COORDINATOR_STATUS)):
            return []  # a retained message being cleared
        match address.kind:
            case Kind.UPDATE:
                return [UpdateArrived(address.agent_id, address.run_id, address.round_number, payload)]
            case Kind.UPDATE_CHUNK:
                return [ChunkArrived(address.agent_id, address.run_id, address.round_number, address.index, payload)]
        try:
            return _events(address, payload, retained=retained)
        except PayloadError as error:
            about = (address.run_id, address.round_number) if address.kind is Kind.OFFER else ("", 0)
            return [MessageRefused(address.agent_id, error.reason, error.detail, *about)]


def _events(address: Address, payload: bytes | memoryview, *, retained: bool) -> list[Event]:
    kind = _MESSAGES.get(address.kind)
    if kind is None:
        raise PayloadError(Reason.UNKNOWN_TOPIC, f"{address.kind.value}: not for the coordinator")
    decoded = wire.decode_report(payload) if kind is AgentReport else wire.decode(payload, kind)
    agent_id, minor = address.agent_id, decoded.version.minor
    event: Event
    match decoded.message:
        case AgentStatus() as status:
            event = AgentSeen(agent_id, status, minor, retained)
        case AgentRequest() as request:
            event = AgentAsked(agent_id, request, minor)
        case UpdateOffer() as offer:
            event = UpdateOffered(agent_id, address.run_id, address.round_number, offer)
        case AgentReport() as report:
            event = ReportArrived(agent_id, address.run_id, address.round_number, report)
        case CoordinatorStatus() as status:
            event = CoordinatorSeen(status, retained)
        case _:
            raise AssertionError(kind)
    return [event, FieldsIgnored(decoded.ignored_fields)] if decoded.ignored_fields else [event]
