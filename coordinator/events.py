"""What can happen to the round engine, and what it asks to be done: frozen data, no behaviour.

Events are in the past tense, actions in the imperative. The service turns messages into events and carries out
actions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.errors import Reason
from schemas.measures import Traffic
from schemas.messages import AgentReport, AgentRequest, AgentStatus, CoordinatorStatus, UpdateOffer
from schemas.records import DeviceRecord, RoundRecord, RunEvent
from schemas.topics import Address
from schemas.weights import Array, Weights


@dataclass(frozen=True, slots=True)
class Started:
    """The engine may begin."""


@dataclass(frozen=True, slots=True)
class ConnectionGained:
    """The broker is in reach, all subscriptions are new."""

    max_packet_bytes: int


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """The broker is out of reach."""


@dataclass(frozen=True, slots=True)
class Released:
    """The operator lets an agent out of quarantine."""

    agent_id: str


@dataclass(frozen=True, slots=True)
class CoordinatorSeen:
    """A coordinator's status arrived: ours, or another's."""

    status: CoordinatorStatus
    retained: bool


@dataclass(frozen=True, slots=True)
class AgentSeen:
    """An agent's status arrived. `minor` is the schema minor that it announced."""

    agent_id: str
    status: AgentStatus
    minor: int
    retained: bool = False


@dataclass(frozen=True, slots=True)
class AgentAsked:
    """An agent asked for something, in a message of schema minor `minor`."""

    agent_id: str
    request: AgentRequest
    minor: int


@dataclass(frozen=True, slots=True)
class UpdateArrived:
    """A whole update blob arrived on the topic of this agent, run and round."""

    agent_id: str
    run_id: str
    round_number: int
    payload: bytes | memoryview


@dataclass(frozen=True, slots=True)
class UpdateOffered:
    """An agent has an update that must be fetched in chunks."""

    agent_id: str
    run_id: str
    round_number: int
    offer: UpdateOffer


@dataclass(frozen=True, slots=True)
class ChunkArrived:
    """A chunk of an offered update arrived."""

    agent_id: str
    run_id: str
    round_number: int
    index: int
    payload: bytes | memoryview


@dataclass(frozen=True, slots=True)
class ReportArrived:
    """An agent's measurements of a round arrived."""

    agent_id: str
    run_id: str
    round_number: int
    report: AgentReport


@dataclass(frozen=True, slots=True)
class MessageRefused:
    """A message could not even be read.

    Attributes:
        agent_id: empty when the topic names none.
        run_id, round_number: of the update that it was about; empty and 0 when it was about something else.
    """

    agent_id: str
    reason: Reason
    detail: str
    run_id: str = ""
    round_number: int = 0


@dataclass(frozen=True, slots=True)
class FieldsIgnored:
    """A message of a newer minor held fields that we do not know."""

    count: int


@dataclass(frozen=True, slots=True)
class Proceeded:
    """The actions before the matching `Proceed` have been carried out: marks the end of a phase in time."""

    traffic: Traffic


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    """The checkpoint of a closed round is safely on disk."""

    round_number: int
    duration_s: float


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The model of a closed round was tried on the held-out test set."""

    round_number: int
    loss: float
    accuracy: float
    duration_s: float


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Something may be due."""


@dataclass(frozen=True, slots=True)
class StopAsked:
    """A person or the service manager wants the run to stop; it can be resumed."""

    reason: str


@dataclass(frozen=True, slots=True)
class WorkFailed:
    """A checkpoint or an evaluation failed: the run cannot go on."""

    what: str
    error: str


Event = (
    Started
    | ConnectionGained
    | ConnectionLost
    | Released
    | CoordinatorSeen
    | AgentSeen
    | AgentAsked
    | UpdateArrived
    | UpdateOffered
    | ChunkArrived
    | ReportArrived
    | MessageRefused
    | FieldsIgnored
    | Proceeded
    | CheckpointSaved
    | Evaluated
    | TimePassed
    | StopAsked
    | WorkFailed
)


@dataclass(frozen=True, slots=True)
class Publish:
    """Send one message."""

    address: Address
    payload: bytes | memoryview
    retain: bool = False
    expiry_s: int | None = None


@dataclass(frozen=True, slots=True)
class Proceed:
    """Report back with `Proceeded` once everything before this is done.

    Attributes:
        hurry: what was said before must not wait for more to be said.
    """

    hurry: bool = False


@dataclass(frozen=True, slots=True)
class SaveCheckpoint:
    """Write weights, strategy state and snapshot durably, then report `CheckpointSaved`."""

    round_number: int
    weights: Weights
    state: Mapping[str, Array]
    snapshot: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Try the weights on the test set, then report `Evaluated`."""

    round_number: int
    weights: Weights


@dataclass(frozen=True, slots=True)
class Record:
    """Append a record to the run's folder; `durable` puts it and all before it on disk before going on."""

    record: RoundRecord | DeviceRecord | RunEvent
    durable: bool = False


@dataclass(frozen=True, slots=True)
class NoteRefusal:
    """Log a refusal (the engine has counted it and answered it).

    `count`: how many of its kind this sender has had since the last round's record; of many, not each is noted.
    """

    agent_id: str
    reason: Reason
    detail: str
    round_number: int
    count: int = 1


@dataclass(frozen=True, slots=True)
class End:
    """The run is over: `finished`, `aborted`, or `stopped` (to be resumed)."""

    outcome: str
    detail: str


Action = Publish | Proceed | SaveCheckpoint | Evaluate | Record | NoteRefusal | End


@dataclass(slots=True)
class RoundTimes:
    """Monotonic marks of one round's phases."""

    opened_s: float
    broadcast_s: float = 0.0
    last_update_s: float = 0.0
    closed_s: float = 0.0
    aggregate_s: float = 0.0
    checkpoint_s: float = 0.0
    evaluate_s: float = 0.0
    traffic: Traffic = field(default_factory=Traffic)
