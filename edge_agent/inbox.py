"""Turns messages into the participant engine's events; anything that cannot be read becomes a refusal."""

from edge_agent.events import (
    Announced,
    Called,
    ChunkArrived,
    ChunksAsked,
    CoordinatorSeen,
    Event,
    MessageRefused,
    ModelArrived,
    ReceiptArrived,
    StatusSeen,
    Stood,
)
from schemas import wire
from schemas.errors import PayloadError
from schemas.messages import (
    AgentStatus,
    ChunksWanted,
    CoordinatorStatus,
    Receipt,
    RoundAnnouncement,
    RoundCall,
    Standing,
)
from schemas.topics import Address, Kind, Topics


class Inbox:
    """Reads what an agent receives.

    Args:
        topics: of this federation.
        agent_id: messages to other agents are refused.
    """

    def __init__(self, topics: Topics, agent_id: str) -> None:
        self._topics = topics
        self._agent_id = agent_id

    def read(self, topic: str, payload: bytes | memoryview, *, retained: bool = False) -> Event | None:
        """The event that a message is; None when it means nothing."""
        address = self._topics.parse(topic)
        if address is None or address.agent_id not in ("", self._agent_id):
            return MessageRefused(topic, "not a topic of ours")
        if not payload and address.kind in (Kind.STATUS, Kind.COORDINATOR_STATUS):
            # Somebody has cleared the retained status.
            return None
        try:
            if address.kind is Kind.STATUS:
                return StatusSeen(wire.decode(payload, AgentStatus).message, retained)
            return _event(address, payload)
        except PayloadError as error:
            return MessageRefused(topic, str(error))


def _event(address: Address, payload: bytes | memoryview) -> Event:  # noqa: PLR0911 - one return per kind of message
    match address.kind:
        case Kind.MODEL | Kind.AGENT_MODEL:
            return ModelArrived(address.run_id, address.round_number, payload)
        case Kind.MODEL_CHUNK:
            return ChunkArrived(address.run_id, address.round_number, address.index, payload)
        case Kind.ANNOUNCEMENT:
            announced = wire.decode(payload, RoundAnnouncement)
            return Announced(announced.message, announced.version.minor)
        case Kind.CALL:
            called = wire.decode(payload, RoundCall)
            return Called(called.message, called.version.minor)
        case Kind.STANDING:
            return Stood(wire.decode(payload, Standing).message)
        case Kind.RECEIPT:
            return ReceiptArrived(wire.decode(payload, Receipt).message)
        case Kind.WANTED:
            return ChunksAsked(wire.decode(payload, ChunksWanted).message)
        case Kind.COORDINATOR_STATUS:
            status = wire.decode(payload, CoordinatorStatus)
            return CoordinatorSeen(status.message, status.version.minor)
        case _:
            return MessageRefused(address.kind.value, "a message that agents do not receive")
