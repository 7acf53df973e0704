"""A participant engine with a model of three numbers, driven by hand-made events in a time of its own."""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from edge_agent.engine import ParticipantEngine
from edge_agent.events import (
    Action,
    Announced,
    Carry,
    CarryKept,
    ConnectionGained,
    ConnectionLost,
    CoordinatorSeen,
    Event,
    HeldModel,
    KeepCarry,
    Measure,
    Measured,
    ModelArrived,
    PendingUpdate,
    Publish,
    ReceiptArrived,
    StatusSeen,
    Stood,
    Tell,
    TimePassed,
    TrainingFinished,
)
from schemas import wire
from schemas.errors import Reason
from schemas.measures import Instant, Traffic
from schemas.messages import (
    AgentReport,
    AgentRequest,
    AgentStatus,
    BlobHeader,
    CoordinatorStatus,
    ModelOffer,
    Receipt,
    RoundAnnouncement,
    Standing,
    TrainingPlan,
)
from schemas.topics import Kind
from schemas.versions import CURRENT
from schemas.weights import Weights, digest, encode

AGENT = "room-1"
RUN = "run-1"
INSTANCE = "this-process"
MAX_PACKET_BYTES = 1_000_000
PLAN = TrainingPlan(model="three", local_batches=1, batch_size=1, learning_rate=1.0, seed=0)

Wanted = TypeVar("Wanted", bound=Action)


def model(value: float) -> Weights:
    return {"w": np.full(3, value, np.float32)}


def carry(value: float) -> Carry:
    return {"momentum": np.full(3, value, np.float32)}


def model_blob(weights: Weights, round_number: int = 1, run_id: str = RUN, kind: str = "model", v: str = "") -> bytes:
    header = BlobHeader(
        v=v or CURRENT.text,
        kind=kind,  # type: ignore[arg-type]
        run_id=run_id,
        round_number=round_number,
        sender="coordinator",
        base_sha256=digest(weights),
        num_examples=0,
        num_batches=0,
    )
    body = wire.encode(header)
    return encode(weights, body.replace(f'"v":"{CURRENT.text}"'.encode(), f'"v":"{v}"'.encode()) if v else body)


def announced(
    round_number: int = 1,
    weights: Weights | None = None,
    *,
    run_id: str = RUN,
    last_accepted_round: int = 0,
    attempt: int = 1,
    recorded_reports: tuple[int, ...] = (),
    chunk_bytes: int = 1024 * 1024,
    in_chunks: bool = False,
    minor: int = CURRENT.minor,
) -> Announced:
    """An announcement; the model is `model(round_number)` unless it is given."""
    weights = model(round_number) if weights is None else weights
    blob = model_blob(weights, round_number, run_id)
    return Announced(
        RoundAnnouncement(
            run_id=run_id,
            round_number=round_number,
            attempt=attempt,
            deadline_s=300.0,
            last_accepted_round=last_accepted_round,
            recorded_reports=recorded_reports,
            chunk_bytes=chunk_bytes,
            max_update_bytes=2**30,
            plan=PLAN,
            model=ModelOffer(
                sha256=digest(weights),
                size_bytes=len(blob),
                blob_sha256=hashlib.sha256(blob).hexdigest() if in_chunks else None,
            ),
        ),
        minor,
    )


def arrived(round_number: int = 1, weights: Weights | None = None, run_id: str = RUN) -> ModelArrived:
    weights = model(round_number) if weights is None else weights
    return ModelArrived(run_id, round_number, model_blob(weights, round_number, run_id))


def trained(round_number: int = 1, carried: Carry | None = None, value: float | None = None) -> TrainingFinished:
    weights = model(10.0 + round_number if value is None else value)
    return TrainingFinished(RUN, round_number, weights, 7, 1, 0.5, carried or {})


def accepted(round_number: int = 1) -> ReceiptArrived:
    return ReceiptArrived(Receipt(run_id=RUN, round_number=round_number, outcome="accepted"))


def refused(round_number: int = 1, reason: Reason = Reason.NON_FINITE) -> ReceiptArrived:
    return ReceiptArrived(Receipt(run_id=RUN, round_number=round_number, outcome="refused", reason=reason, detail="x"))


def stood(
    closed_round: int = 0,
    phase: str = "waiting",
    *,
    last_accepted_round: int = 0,
    run_id: str = RUN,
    recorded_reports: tuple[int, ...] = (),
    detail: str | None = None,
) -> Stood:
    return Stood(
        Standing(
            phase=phase,  # type: ignore[arg-type]
            run_id=run_id,
            closed_round=closed_round,
            last_accepted_round=last_accepted_round,
            recorded_reports=recorded_reports,
            detail=detail,
        )
    )


def coordinator(
    session: str, state: str = "online", *, claim: bool = False, answers: str | None = None
) -> CoordinatorSeen:
    status = CoordinatorStatus(state=state, session=session, claim=claim, answers=answers)  # type: ignore[arg-type]
    return CoordinatorSeen(status, CURRENT.minor)


def status(instance: str = INSTANCE, state: str = "online", *, retained: bool = True) -> StatusSeen:
    """A status on the agent's own topic."""
    return StatusSeen(AgentStatus(state=state, instance=instance), retained)  # type: ignore[arg-type]


class Agent:
    """The engine, its time, and what it has asked to be done; answers `Measure` and `KeepCarry` as the service does.

    Attributes:
        disk_error: why nothing can be written; empty while all is well.
    """

    def __init__(
        self,
        pending: PendingUpdate | None = None,
        carries: dict[int, Carry] | None = None,
        run_id: str = "",
        *,
        held: HeldModel | None = None,
        ended: frozenset[str] = frozenset(),
        connected: bool = True,
    ) -> None:
        self.engine = ParticipantEngine(AGENT, INSTANCE, pending, carries, run_id, held, ended)
        self.now_s = 1000.0
        self.temperature_c: float | None = None
        self.disk_error = ""
        self.actions: list[Action] = []
        if connected:
            self.take(ConnectionGained(MAX_PACKET_BYTES))

    def take(self, *events: Event) -> list[Action]:
        """Hand over events; the actions that they led to."""
        self.actions = []
        for event in events:
            self._handle(event)
        return self.actions

    def wait(self, seconds: float) -> list[Action]:
        """Let time pass as the driver does: wake the engine whenever it wants to be woken, and no more."""
        self.actions = []
        end_s = self.now_s + seconds
        while (wake_at_s := self.engine.wake_at_s()) <= end_s:
            assert wake_at_s >= self.now_s, "a moment that has passed: the driver would never sleep"
            self.now_s = wake_at_s
            self._handle(TimePassed())
            assert self.engine.wake_at_s() > self.now_s, "woken in vain"
        self.now_s = end_s
        return self.actions

    def reconnect(self) -> list[Action]:
        """The connection breaks and is there again; the broker has kept the status of our own last will."""
        return self.take(ConnectionLost(), ConnectionGained(MAX_PACKET_BYTES), status(state="offline"))

    def through(self, round_number: int = 1, carried: Carry | None = None, last_accepted_round: int = 0) -> None:
        """One round up to the accepted update."""
        self.take(announced(round_number, last_accepted_round=last_accepted_round), arrived(round_number))
        self.take(trained(round_number, carried))
        self.take(accepted(round_number))

    def of(self, kind: type[Wanted]) -> list[Wanted]:
        """The last actions of one kind."""
        return [action for action in self.actions if isinstance(action, kind)]

    def sent(self, kind: Kind) -> list[Publish]:
        """The last messages on topics of one kind."""
        return [action for action in self.of(Publish) if action.address.kind is kind]

    def requests(self) -> list[AgentRequest]:
        return [wire.decode(message.payload, AgentRequest).message for message in self.sent(Kind.REQUEST)]

    def reports(self) -> dict[int, AgentReport]:
        """The reports that were just sent, by round."""
        return {
            message.address.round_number: wire.decode_report(message.payload).message
            for message in self.sent(Kind.REPORT)
        }

    def told(self) -> str:
        return "\n".join(action.text for action in self.of(Tell))

    def _handle(self, event: Event) -> None:
        actions: Sequence[Action] = self.engine.handle(event, Instant(self.now_s, 0.0))
        self.actions += actions
        for action in actions:
            if isinstance(action, Measure):
                self._handle(Measured(action.run_id, action.round_number, Traffic(), 1.0, 1, self.temperature_c))
            elif isinstance(action, KeepCarry):
                self._handle(CarryKept(action.run_id, action.round_number, self.disk_error))
