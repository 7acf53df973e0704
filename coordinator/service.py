"""Joins the round engine to the world: messages become events, actions become calls. No decisions here."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from coordinator.engine import RoundEngine
from coordinator.events import (
    Action,
    CheckpointSaved,
    ConnectionGained,
    ConnectionLost,
    End,
    Evaluate,
    Evaluated,
    Event,
    NoteRefusal,
    Proceed,
    Proceeded,
    Publish,
    Record,
    Released,
    SaveCheckpoint,
    Started,
    StopAsked,
    TimePassed,
    WorkFailed,
)
from coordinator.inbox import Inbox
from schemas.errors import FederationError, TransportError
from schemas.measures import Instant
from schemas.records import DeviceRecord, RoundRecord, RunEvent
from schemas.topics import Topics
from schemas.weights import Array, Weights
from transport.jobs import run as run_job
from transport.ports import Connected, Disconnected, JobDone, Jobs, Message, Received, StopRequested, Transport
from transport.ports import Event as TransportEvent

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often to look whether the operator lets an agent out of quarantine, while one is there."""

SAVED_AT_ONCE_BYTES = 16 * 1024 * 1024


class Store(Protocol):
    """Where a run is kept."""

    def append(self, record: RoundRecord | DeviceRecord | RunEvent, *, durable: bool) -> None:
        """Append a record; `durable` puts it and all before it on disk."""

    def save_checkpoint(
        self, round_number: int, weights: Weights, state: Mapping[str, Array], snapshot: dict[str, Any]
    ) -> None:
        """Write a checkpoint durably."""

    def releases(self) -> list[str]:
        """Agents that the operator lets out of quarantine."""

    def forget_release(self, agent_id: str) -> None:
        """It was let out."""


@dataclass(frozen=True, slots=True)
class Score:
    """How good a model is on the held-out test set."""

    loss: float
    accuracy: float


class Observer(Protocol):
    """Who wants to see what happens, such as a progress display."""

    def on_record(self, record: RoundRecord | DeviceRecord | RunEvent) -> None:
        """A record was made."""

    def on_refusal(self, refusal: NoteRefusal) -> None:
        """A message was refused."""

    def on_connection(self, connected: bool, reason: str) -> None:
        """The broker came into reach, or went out of it."""


@dataclass(slots=True)
class Outside:
    """All that the coordinator's service acts on.

    Attributes:
        evaluate: weights to score, run as a job.
        clock: read again after work that takes time, so that phases can be told apart.
    """

    topics: Topics
    transport: Transport
    jobs: Jobs
    store: Store
    evaluate: Callable[[Weights], Score]
    clock: Callable[[], Instant]
    observer: Observer | None = None


class CoordinatorService:
    """One run, to be driven by `transport.driver`.

    Attributes:
        outcome: `finished`, `aborted` or `stopped` once it is over; `detail` says why.
    """

    def __init__(self, engine: RoundEngine, outside: Outside) -> None:
        self.engine = engine
        self._outside = outside
        self._inbox = Inbox(outside.topics)
        self._started = False
        self._look_at_s = 0.0
        self.outcome = ""
        self.detail = ""

    @property
    def finished(self) -> bool:
        """True when the driver should return."""
        return bool(self.outcome)

    def wake_at_s(self) -> float:
        """Monotonic time of the next thing that becomes due."""
        if not self._started:
            return 0.0
        look_at_s = self._look_at_s if self.engine.members.num_quarantined else math.inf
        return min(self.engine.wake_at_s(), look_at_s)

    def on_time(self, now: Instant) -> None:
        """Do what is due."""
        if not self._started:
            self._started = True
            self._handle(Started(), now)
        self._handle(TimePassed(), now)
        if self.engine.members.num_quarantined and now.monotonic_s >= self._look_at_s:
            self._look_at_s = now.monotonic_s + LOOK_S
            self._let_out(now)

    def _let_out(self, now: Instant) -> None:
        for agent_id in self._outside.store.releases():
            self._handle(Released(agent_id), now)
            if not self.finished:  # the record says so now
                self._outside.store.forget_release(agent_id)

    def on_event(self, event: TransportEvent, now: Instant) -> None:
        """Take one event from the transport, a job or the driver."""
        match event:
            case Received(message=message):
                for read in self._inbox.read(message.topic, message.payload, retained=message.retain):
                    self._handle(read, now)
            case Connected(max_packet_bytes=max_packet_bytes):
                self._tell_connection(True, "")
                self._handle(ConnectionGained(max_packet_bytes), now)
            case Disconnected(reason=reason):
                log.warning("not connected: %s", reason)
                self._tell_connection(False, reason)
                self._handle(ConnectionLost(), now)
            case JobDone():
                self._on_job_done(event, now)
            case StopRequested(reason=reason):
                self._handle(StopAsked(reason), now)

    def _on_job_done(self, event: JobDone, now: Instant) -> None:
        if isinstance(event.result, CheckpointSaved | Evaluated):
            self._handle(event.result, now)
        else:
            # What is raised on purpose says itself what to do; anything else is for whoever mends the program.
            unforeseen = None if isinstance(event.error, FederationError) else event.error
            log.error("%s failed: %s", event.name, event.error, exc_info=unforeseen)
            self._handle(WorkFailed(event.name, str(event.error)), now)

    def _handle(self, event: Event, now: Instant) -> None:
        for action in self.engine.handle(event, now):
            if self.finished:
                return  # a record could not be kept: nothing that rests on it may be said
            self._perform(action)

    def _perform(self, action: Action) -> None:
        outside = self._outside
        match action:
            case Publish():
                self._publish(action)
            case Proceed(hurry=hurry):
                if hurry:
                    outside.transport.flush()
                self._handle(Proceeded(outside.transport.traffic.copy()), outside.clock())
            case SaveCheckpoint():
                self._save_soon(action)
            case Evaluate():
                outside.jobs.submit("evaluation", lambda: self._evaluate(action))
            case Record(record=record, durable=durable):
                self._record(record, durable=durable)
            case NoteRefusal():
                log.warning(
                    "round_number=%d agent_id=%s refused: %s: %s%s",
                    action.round_number,
                    action.agent_id or "-",
                    action.reason,
                    action.detail,
                    f" ({action.count} times since the last round)" if action.count > 1 else "",
                )
                if outside.observer is not None:
                    outside.observer.on_refusal(action)
            case End():
                self.outcome, self.detail = action.outcome, action.detail

    def _record(self, record: RoundRecord | DeviceRecord | RunEvent, *, durable: bool) -> None:
        try:
            self._outside.store.append(record, durable=durable)
        except FederationError as error:
            # Whatever is acknowledged next would rest on this record: better to stop and be resumed.
            log.error("%s", error)
            self.outcome, self.detail = "stopped", str(error)
        if self._outside.observer is not None:
            self._outside.observer.on_record(record)

    def _save_soon(self, action: SaveCheckpoint) -> None:
        """Save here, or as a job when that takes so long that the broker would miss us.

        Nothing can happen to a round before its checkpoint is on the disk, so handing a small one to another
        thread and back only takes longer.
        """
        arrays = [*action.weights.values(), *action.state.values()]
        if sum(array.nbytes for array in arrays) > SAVED_AT_ONCE_BYTES:
            self._outside.jobs.submit("checkpoint", lambda: self._save(action))
        else:
            self._on_job_done(run_job("checkpoint", lambda: self._save(action)), self._outside.clock())

    def _save(self, action: SaveCheckpoint) -> CheckpointSaved:
        begin_s = time.perf_counter()
        self._outside.store.save_checkpoint(action.round_number, action.weights, action.state, action.snapshot)
        return CheckpointSaved(action.round_number, time.perf_counter() - begin_s)

    def _evaluate(self, action: Evaluate) -> Evaluated:
        begin_s = time.perf_counter()
        score = self._outside.evaluate(action.weights)
        return Evaluated(action.round_number, score.loss, score.accuracy, time.perf_counter() - begin_s)

    def _publish(self, action: Publish) -> None:
        topic = self._outside.topics.build(action.address)
        try:
            self._outside.transport.publish(Message(topic, action.payload, action.retain, action.expiry_s))
        except TransportError as error:
            log.error("cannot send %s: %s", topic, error)

    def _tell_connection(self, connected: bool, reason: str) -> None:
        if self._outside.observer is not None:
            self._outside.observer.on_connection(connected, reason)
