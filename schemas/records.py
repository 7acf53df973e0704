"""What a run leaves behind: one JSON line per record in the run's `record.jsonl`.

The report, the dashboards' points (`metrics.py`) and the replay all come from these lines alone. Reading keeps
the last line of each `key`: a coordinator that was killed between writing a record and its checkpoint writes the
same record again when it resumes.
"""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from schemas.identifiers import AgentId, RoundNumber, RunId, Sha256
from schemas.messages import AgentReport, Part

Tally = dict[str, dict[str, int]]
"""Refusals as agent id -> reason -> count; senders that are no member are counted under `unknown`."""


class RoundRecord(Part):
    """One closed round, as the coordinator saw it. Durations are its own monotonic clock's.

    Attributes:
        started_at: UTC seconds at which the round was announced: the timestamp of all its points.
        selected, accepted: agent ids, sorted.
        refused: since the record before this one.
        ignored_fields: unknown fields of newer minors that were dropped, since the record before.
        duration_s: announcement until the next round could open; `broadcast_s`: handing model and announcements
            to the transport; `wait_s`: until the last counted update; then `aggregate_s`, `checkpoint_s`,
            `evaluate_s` (the last two may overlap).
        num_examples: the sum of n_k over the accepted updates.
        train_loss: mean of the accepted updates' training losses, weighted by n_k.
        loss, accuracy: of the new global model on the held-out test set, where it was evaluated.
        payload_bytes_*, packet_bytes_*: the coordinator's own traffic during the round.
        slowest_agent_id, slowest_latency_s: whose update was counted last, and how long after the announcement.
        target_accuracy, rounds_planned: how the run was to end when this round closed; None in older records.
    """

    type: Literal["round"] = "round"
    run_id: RunId
    round_number: RoundNumber
    attempt: int
    started_at: float
    selected: tuple[AgentId, ...]
    accepted: tuple[AgentId, ...]
    refused: Tally
    ignored_fields: int
    duration_s: float
    broadcast_s: float
    wait_s: float
    aggregate_s: float
    checkpoint_s: float
    evaluate_s: float
    num_examples: int
    train_loss: float | None
    loss: float | None
    accuracy: float | None
    model_sha256: Sha256
    payload_bytes_up: int
    payload_bytes_down: int
    packet_bytes_up: int
    packet_bytes_down: int
    slowest_agent_id: AgentId | None = None
    slowest_latency_s: float | None = None
    target_accuracy: float | None = None
    rounds_planned: int | None = None

    @property
    def key(self) -> tuple[str, int, str]:
        """What identifies the record within its run."""
        return self.type, self.round_number, ""


class DeviceRecord(Part):
    """One agent's report of one round, with what only the coordinator can see.

    Attributes:
        latency_s: announcement to counted update on the coordinator's clock; None when it was not counted.
    """

    type: Literal["device"] = "device"
    run_id: RunId
    round_number: RoundNumber
    agent_id: AgentId
    started_at: float
    latency_s: float | None
    report: AgentReport

    @property
    def key(self) -> tuple[str, int, str]:
        """What identifies the record within its run."""
        return self.type, self.round_number, self.agent_id


class RunEvent(Part):
    """Something that happened to a run and that a person may want to know.

    Attributes:
        name: `started`, `resumed`, `broker-connected`, `broker-lost`, `agent-online`, `agent-offline`,
            `agent-silent`, `agent-failed`, `agent-quarantined`, `agent-released`, `round-opened`, `round-repeated`,
            `target-reached`, `finished`, `aborted`, `stopped`.
        detail: one sentence.
    """

    type: Literal["event"] = "event"
    run_id: RunId
    at: float
    name: str
    round_number: RoundNumber
    agent_id: AgentId | None = None
    detail: str = ""

    @property
    def key(self) -> tuple[str, float, str]:
        """What identifies the record within its run."""
        return f"{self.type}/{self.name}", self.at, self.agent_id or ""


Record = Annotated[RoundRecord | DeviceRecord | RunEvent, Field(discriminator="type")]

RECORDS: TypeAdapter[RoundRecord | DeviceRecord | RunEvent] = TypeAdapter(Record)
"""Reads one line of `record.jsonl`."""
