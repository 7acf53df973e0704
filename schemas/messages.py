"""Every JSON message of the protocol, and the headers inside safetensors blobs.

Messages are frozen pydantic models; unknown keys are refused. How a message becomes bytes, and what happens
between parties of different versions, is in `wire.py`; which topic carries which message is in `topics.py`.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.errors import Reason
from schemas.identifiers import PartyId, RoundNumber, RunId, Sha256
from schemas.versions import CURRENT, Since

Seconds = Annotated[float, Field(ge=0, le=1e9)]
Bytes = Annotated[int, Field(ge=0, le=2**48)]
Count = Annotated[int, Field(ge=0, le=2**48)]
ModelName = Annotated[str, Field(min_length=1, max_length=200)]
Codec = Annotated[str, Field(min_length=1, max_length=64)]
DigestPrefix = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
RoundNumbers = Annotated[tuple[RoundNumber, ...], Field(max_length=16)]
Detail = Annotated[str, Field(max_length=500)]


class Part(BaseModel):
    """A group of fields inside a message."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class WireMessage(Part):
    """Base of all messages: `v` is the schema version "major.minor" that the sender wrote."""

    v: Annotated[str, Field(pattern=r"^\d{1,4}\.\d{1,4}$")] = CURRENT.text

    significant_digits: ClassVar[int | None] = None
    """Measurements are written with this many digits, to save bytes; None writes every float exactly."""


class RoundRef(Part):
    """One round of one run."""

    run_id: RunId
    round_number: RoundNumber


class RoundFailure(Part):
    """Why an agent does not deliver the update that an attempt at a round asked it for."""

    run_id: RunId
    round_number: RoundNumber
    attempt: Annotated[int, Field(ge=1, le=10_000)]
    detail: Detail


class AgentStatus(WireMessage):
    """An agent is there (retained), or gone (its last will). `v` is the highest version that it speaks.

    Attributes:
        instance: drawn anew at each start of the process, so that a restart can be told from a reconnect.
        codecs: what it can decode and encode besides `fp32`.
        holds: digest of the model that it holds, so that the next one may come as a difference from it.
    """

    state: Literal["online", "offline"]
    instance: Annotated[str, Field(max_length=32)]
    codecs: Annotated[tuple[Codec, ...], Field(max_length=32), Since(1)] = ()
    holds: Annotated[Sha256 | None, Since(2)] = None


class AgentRequest(WireMessage):
    """An agent asks: what is going on (`state`), for the model (`model`) or for pieces of it (`chunks`).

    It asks for the `whole` model when it can do nothing with the difference that it is offered.

    Attributes:
        first: the first chunk wanted; `count`: how many from there on.
        codecs, holds: as in the status, which may have been lost.
        failed: what it was asked for last and cannot deliver, so that nobody waits for it.
    """

    want: Literal["state", "model", "chunks", "whole"]
    round: RoundRef | None = None
    first: Count = 0
    count: Annotated[int, Field(ge=0, le=64)] = 0
    codecs: Annotated[tuple[Codec, ...] | None, Field(max_length=32), Since(2)] = None
    holds: Annotated[Sha256 | None, Since(2)] = None
    failed: Annotated[RoundFailure | None, Since(2)] = None


class TrainingPlan(Part):
    """What an agent trains: the same for every agent and round of a run.

    Attributes:
        model: a model's name, known to the agent; nothing is ever loaded over the wire.
        local_batches: E, the batches of local training per round.
        batch_size: B, the examples of a batch.
        seed: the run's seed, from which the order of examples is derived.
        strategy: the name of the local rule; `options` are its numbers.
    """

    model: ModelName
    local_batches: Annotated[int, Field(ge=1, le=1_000_000)]
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)]
    learning_rate: Annotated[float, Field(gt=0, le=1e6)]
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    strategy: Annotated[str, Field(max_length=64)] = "fedavg"
    options: dict[Annotated[str, Field(max_length=40)], float] = Field(default_factory=dict, max_length=32)


class ModelOffer(Part):
    """The model that a round starts from.

    Attributes:
        sha256: digest of the weights (see `weights.digest`), the same whatever the encoding.
        size_bytes: of the blob that carries it; `chunk_bytes`: larger blobs are fetched in chunks of this size.
        blob_sha256: hash of the blob itself, for chunked transfer.
        codec: set where models come as differences in this codec: the agent holds on to each model for the next one.
        base: the blob is a difference from the model whose digest begins so; None when it is the model itself.
        from_seed: the model is the plan's first one, which agents derive themselves: no blob is sent unasked.
    """

    sha256: Sha256
    size_bytes: Bytes
    blob_sha256: Sha256 | None = None
    codec: Annotated[Codec | None, Since(2)] = None
    base: Annotated[DigestPrefix | None, Since(2)] = None
    from_seed: Annotated[bool | None, Since(2)] = None


class RoundAnnouncement(WireMessage):
    """To one selected agent: round `round_number` is open and your update is wanted.

    Attributes:
        attempt: 1, or more when the round was repeated.
        deadline_s: seconds from now in which the update must have arrived.
        last_accepted_round: the last closed round in which this agent's update was part of the aggregate, 0 for
            none: what the agent carries from that round takes effect, anything later is rolled back.
        recorded_reports: the latest rounds below `round_number` - 2 whose report from this agent is safely on the
            coordinator's disk.
        chunk_bytes: blobs larger than this travel in chunks of this size.
        max_update_bytes: the largest update blob that is read.
        codec: how the update is to be encoded; None for plain fp32 weights.
        terms: a name for all that stays the same from round to round, by which a `RoundCall` refers to it.
    """

    run_id: RunId
    round_number: RoundNumber
    attempt: Annotated[int, Field(ge=1, le=10_000)]
    deadline_s: Seconds
    last_accepted_round: RoundNumber
    recorded_reports: RoundNumbers = ()
    chunk_bytes: Annotated[int, Field(ge=1024, le=2**28)]
    max_update_bytes: Bytes
    plan: TrainingPlan
    model: ModelOffer
    codec: Annotated[Codec | None, Since(1)] = None
    terms: Annotated[DigestPrefix | None, Since(2)] = None


class RoundCall(WireMessage):
    """A `RoundAnnouncement` in fewer bytes, to an agent that has had a complete one with the same `terms`.

    The model is the difference from the one before. Everything that is not here is as in the complete announcement.

    Attributes:
        sha256: digest of the model; `base`: the first digits of that of the model before.
    """

    run_id: RunId
    round_number: RoundNumber
    attempt: Annotated[int, Field(ge=1, le=10_000)]
    deadline_s: Seconds
    last_accepted_round: RoundNumber
    recorded_reports: RoundNumbers = ()
    terms: DigestPrefix
    sha256: Sha256
    base: DigestPrefix


class Standing(WireMessage):
    """To one agent: where the run stands when nothing is wanted from it now.

    Attributes:
        phase: `waiting` wait for an announcement; `finished` and `aborted` end the run.
        closed_round: the last closed round: work on it and on earlier ones can stop.
        last_accepted_round, recorded_reports: as in the announcement.
    """

    phase: Literal["waiting", "finished", "aborted"]
    run_id: RunId
    closed_round: RoundNumber
    last_accepted_round: RoundNumber = 0
    recorded_reports: RoundNumbers = ()
    detail: Detail | None = None


class Receipt(WireMessage):
    """To one agent: what became of its update; it stops sending it again.

    `accepted` means counted in the open round. Only a later `last_accepted_round` says that the round closed
    with it.
    """

    run_id: RunId
    round_number: RoundNumber
    outcome: Literal["accepted", "refused"]
    reason: Reason | None = None
    detail: Detail | None = None


class UpdateOffer(WireMessage):
    """An agent has an update too large for one packet; the coordinator asks for its chunks."""

    size_bytes: Bytes
    sha256: Sha256


class ChunksWanted(WireMessage):
    """To one agent: send `count` chunks of your update from `first` on."""

    run_id: RunId
    round_number: RoundNumber
    first: Count
    count: Annotated[int, Field(ge=1, le=64)]


class AgentReport(WireMessage):
    """An agent's own measurements of one round (the topic names agent, run and round).

    Attributes:
        download_s: announcement seen until the model was complete; `train_s`: local training; `upload_s`: first
            byte of the update handed over until its receipt; `idle_s`: waiting since the round before.
        loss: mean training loss over the round's batches.
        payload_bytes_*, packet_bytes_*: since the report before this one; *packet bytes* are whole MQTT control
            packets of every kind, this report's own included, before TLS and TCP.
        cpu_s: CPU seconds of the agent's process since the report before; `peak_rss_bytes`: its highest RSS.
        cpu_temperature_c, throttled: where the device has the sensors.
    """

    significant_digits = 5

    download_s: Seconds
    train_s: Seconds
    upload_s: Seconds
    idle_s: Seconds
    batches: Count
    examples: Count
    loss: float
    payload_bytes_up: Bytes
    payload_bytes_down: Bytes
    packet_bytes_up: Bytes
    packet_bytes_down: Bytes
    cpu_s: Seconds
    peak_rss_bytes: Bytes
    cpu_temperature_c: Annotated[Annotated[float, Field(ge=-100, le=300)] | None, Since(1)] = None
    throttled: Annotated[bool | None, Since(1)] = None


_REPORT_FIELDS = tuple(name for name in AgentReport.model_fields if name != "v")


class BriefReport(WireMessage):
    """An `AgentReport` in fewer bytes: the values of its fields behind `v`, in order; null where there is none."""

    values: Annotated[tuple[float | int | bool | None, ...], Field(min_length=13, max_length=32)]

    @classmethod
    def of(cls, report: AgentReport) -> "BriefReport":
        """The same report, with as many digits as it is written with."""
        values = [_shortest(getattr(report, name), AgentReport.significant_digits) for name in _REPORT_FIELDS]
        while values[-1] is None:
            values.pop()
        return cls(values=tuple(values))

    @property
    def report(self) -> AgentReport:
        """The same report.

        Raises:
            ValueError: a value is missing, or out of its range.
        """
        return AgentReport.model_validate(dict(zip(_REPORT_FIELDS, self.values, strict=False)))


def _shortest(value: float | bool | None, digits: int) -> float | bool | None:
    if not isinstance(value, float):
        return value
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() else rounded


class CoordinatorStatus(WireMessage):
    """The coordinator is there (retained), or gone (its last will). An agent answers a new session with its status.

    Attributes:
        session: new at each start of the coordinator, so that agents and a second coordinator notice. Of two
            coordinators, the one whose session sorts later was started later.
        claim: True while a coordinator that has just started asks whether another one is there.
        answers: the session whose claim this status answers: that coordinator must not start.
    """

    state: Literal["online", "offline"]
    session: Annotated[str, Field(max_length=32)]
    claim: bool = False
    answers: Annotated[str, Field(max_length=32)] | None = None
    run_id: RunId | None = None


class BlobHeader(WireMessage):
    """The header inside a weight blob: who made it, for which round, from which model.

    Attributes:
        sender: the agent id, or `coordinator` for a model.
        base_sha256: digest of the model that the weights started from; for a model, its own digest.
        num_examples: the agent's local examples, n_k of the weighted mean (in a model: their sum, 0 at first).
        num_batches: the batches trained in this round.
        codec: of the weights; None when they are plain, which is all there is: see `DifferenceHeader`.
    """

    kind: Literal["model", "update"]
    run_id: RunId
    round_number: RoundNumber
    sender: PartyId
    base_sha256: Sha256
    num_examples: Count
    num_batches: Count
    loss: float | None = None
    codec: Annotated[Codec | None, Since(1)] = None


class DifferenceHeader(WireMessage):
    """The header inside a blob that holds an encoded difference; agent, run and round are those of the topic.

    Attributes:
        codec: of the tensors.
        base: the first digits of the digest of the model that it is a difference from; `to`: of the one that a
            model's difference leads to.
        num_examples, num_batches, loss: of an update, as in `BlobHeader`.
    """

    significant_digits = 6

    kind: Literal["difference"] = "difference"
    codec: Codec
    base: DigestPrefix
    to: DigestPrefix | None = None
    num_examples: Count | None = None
    num_batches: Count | None = None
    loss: float | None = None


class ChunkHeader(WireMessage):
    """The header of one chunk: a part of the blob whose hash it names."""

    blob_sha256: Sha256
    index: Annotated[int, Field(ge=0, le=1_000_000)]
