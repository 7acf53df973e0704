"""What can happen to the participant engine, and what it asks to be done: frozen data, no behaviour."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.measures import Traffic
from schemas.messages import (
    AgentStatus,
    ChunksWanted,
    CoordinatorStatus,
    Receipt,
    RoundAnnouncement,
    RoundCall,
    Standing,
)
from schemas.topics import Address
from schemas.weights import Array, Weights

Carry = Mapping[str, Array]
"""What a local rule carries from round to round, such as momentum; empty for plain FedAvg."""


@dataclass(frozen=True, slots=True)
class HeldModel:
    """A model that the agent holds on to, so that the next one can come as a difference from it.

    Attributes:
        sha256: digest of the weights.
    """

    sha256: str
    weights: Weights


@dataclass(frozen=True, slots=True)
class ConnectionGained:
    """The broker is in reach, all subscriptions are new."""

    max_packet_bytes: int


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """The broker is out of reach."""


@dataclass(frozen=True, slots=True)
class StatusSeen:
    """A status arrived on this agent's own topic: ours, or that of another process under the same id."""

    status: AgentStatus
    retained: bool


@dataclass(frozen=True, slots=True)
class CoordinatorSeen:
    """A coordinator's status arrived."""

    status: CoordinatorStatus
    minor: int


@dataclass(frozen=True, slots=True)
class Announced:
    """We are invited to a round, in a message of schema minor `minor`."""

    announcement: RoundAnnouncement
    minor: int


@dataclass(frozen=True, slots=True)
class Called:
    """We are invited to a round on terms that we should know, in a message of schema minor `minor`."""

    call: RoundCall
    minor: int


@dataclass(frozen=True, slots=True)
class Stood:
    """The coordinator told us where the run stands."""

    standing: Standing


@dataclass(frozen=True, slots=True)
class ModelArrived:
    """A whole model blob arrived."""

    run_id: str
    round_number: int
    payload: bytes | memoryview


@dataclass(frozen=True, slots=True)
class ChunkArrived:
    """A chunk of a model arrived."""

    run_id: str
    round_number: int
    index: int
    payload: bytes | memoryview


@dataclass(frozen=True, slots=True)
class ReceiptArrived:
    """The coordinator told us what became of our update."""

    receipt: Receipt


@dataclass(frozen=True, slots=True)
class ChunksAsked:
    """The coordinator wants chunks of our update."""

    wanted: ChunksWanted


@dataclass(frozen=True, slots=True)
class MessageRefused:
    """A message could not be read."""

    topic: str
    reason: str


@dataclass(frozen=True, slots=True)
class ModelDerived:
    """The plan's first model was made, or could not be: then `weights` is None, and `error` says why."""

    run_id: str
    round_number: int
    weights: Weights | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class TrainingFinished:
    """Local training of one round is done.

    Attributes:
        num_examples: of the room's data set; `loss` is the mean over the round's batches.
        carry: what the local rule wants to keep for the next round.
    """

    run_id: str
    round_number: int
    weights: Weights
    num_examples: int
    num_batches: int
    loss: float
    carry: Carry = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrainingFailed:
    """Local training could not be done; a person must look at it."""

    run_id: str
    round_number: int
    error: str


@dataclass(frozen=True, slots=True)
class CarryKept:
    """The answer to `KeepCarry`: it is on the disk, or it is not, and `error` says why."""

    run_id: str
    round_number: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the device measured since the last `Measure`: the answer to it.

    Attributes:
        traffic: totals of the transport; the engine takes differences.
    """

    run_id: str
    round_number: int
    traffic: Traffic
    cpu_s: float
    peak_rss_bytes: int
    cpu_temperature_c: float | None = None
    throttled: bool | None = None


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Something may be due."""


@dataclass(frozen=True, slots=True)
class StopAsked:
    """The process must end."""


Event = (
    ConnectionGained
    | ConnectionLost
    | StatusSeen
    | CoordinatorSeen
    | Announced
    | Called
    | Stood
    | ModelArrived
    | ChunkArrived
    | ReceiptArrived
    | ChunksAsked
    | MessageRefused
    | ModelDerived
    | TrainingFinished
    | TrainingFailed
    | CarryKept
    | Measured
    | TimePassed
    | StopAsked
)


@dataclass(frozen=True, slots=True)
class PendingUpdate:
    """An update that was made and whose round is not known to be closed; kept on disk.

    Attributes:
        base_sha256: digest of the model that it started from: another model makes it worthless.
        blob: exactly the bytes that are sent, however often.
        carry: takes effect when the round closes with this update.
    """

    run_id: str
    round_number: int
    base_sha256: str
    blob: bytes | memoryview
    carry: Carry

    def answers(self, announcement: RoundAnnouncement) -> bool:
        """True when this is the update that is asked for: of the same round, from the same model."""
        ours = (self.run_id, self.round_number, self.base_sha256)
        return ours == (announcement.run_id, announcement.round_number, announcement.model.sha256)


@dataclass(frozen=True, slots=True)
class Publish:
    """Send one message."""

    address: Address
    payload: bytes | memoryview
    retain: bool = False
    expiry_s: int | None = None


@dataclass(frozen=True, slots=True)
class DeriveModel:
    """Make the plan's first model, and report `ModelDerived`."""

    announcement: RoundAnnouncement


@dataclass(frozen=True, slots=True)
class StartTraining:
    """Train on the room's data from these weights; report `TrainingFinished` or `TrainingFailed`."""

    announcement: RoundAnnouncement
    weights: Weights
    carry: Carry


@dataclass(frozen=True, slots=True)
class StopTraining:
    """Whatever is being trained is not wanted any more; no report is."""


@dataclass(frozen=True, slots=True)
class KeepModel:
    """Put the model that is held on disk; losing it costs a whole model, nothing else."""

    run_id: str
    model: HeldModel


@dataclass(frozen=True, slots=True)
class KeepCarry:
    """Put what was carried out of a round on the disk, synced, and report `CarryKept` at once."""

    run_id: str
    round_number: int
    carry: Carry


@dataclass(frozen=True, slots=True)
class KeepUpdate:
    """Put an update on disk; losing it costs a training, nothing else."""

    update: PendingUpdate


@dataclass(frozen=True, slots=True)
class ForgetUpdate:
    """The round of an update is closed: remove it, and unless it was `accepted`, what it carried as well."""

    run_id: str
    round_number: int
    accepted: bool


@dataclass(frozen=True, slots=True)
class ForgetCarriesBefore:
    """Carries of rounds before this one are not needed any more."""

    run_id: str
    round_number: int


@dataclass(frozen=True, slots=True)
class ForgetOtherRuns:
    """Remove all that belongs to any other run than this one."""

    run_id: str


@dataclass(frozen=True, slots=True)
class Measure:
    """Read bytes, CPU time and sensors, and report them as `Measured` at once."""

    run_id: str
    round_number: int


@dataclass(frozen=True, slots=True)
class Tell:
    """Something for the log: `warning` is True when a person may have to act."""

    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class End:
    """The process can end; `taken_over`: for good, as a newer one works under this agent's id."""

    taken_over: bool = False


Action = (
    Publish
    | DeriveModel
    | StartTraining
    | StopTraining
    | KeepModel
    | KeepCarry
    | KeepUpdate
    | ForgetUpdate
    | ForgetCarriesBefore
    | ForgetOtherRuns
    | Measure
    | Tell
    | End
)
