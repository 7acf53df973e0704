"""Joins the participant engine to the world: messages become events, actions become calls. No decisions here."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from edge_agent import sensors
from edge_agent.engine import ParticipantEngine
from edge_agent.events import (
    Action,
    Carry,
    CarryKept,
    ConnectionGained,
    ConnectionLost,
    DeriveModel,
    End,
    Event,
    ForgetCarriesBefore,
    ForgetOtherRuns,
    ForgetUpdate,
    HeldModel,
    KeepCarry,
    KeepModel,
    KeepUpdate,
    Measure,
    Measured,
    ModelDerived,
    PendingUpdate,
    Publish,
    StartTraining,
    StopAsked,
    StopTraining,
    Tell,
    TimePassed,
    TrainingFailed,
    TrainingFinished,
)
from edge_agent.inbox import Inbox
from edge_agent.trainer import RoundTrainer
from schemas.errors import StorageError, TransportError
from schemas.measures import Instant, Traffic
from schemas.messages import RoundAnnouncement
from schemas.topics import Topics
from transport.ports import (
    Connected,
    Disconnected,
    JobDone,
    Jobs,
    Message,
    Received,
    StopRequested,
    Transport,
)
from transport.ports import Event as TransportEvent

log = logging.getLogger(__name__)


def measure(run_id: str, round_number: int, traffic: Traffic) -> Measured:
    """What this device measures right now."""
    return Measured(
        run_id=run_id,
        round_number=round_number,
        traffic=traffic,
        cpu_s=sensors.cpu_seconds(),
        peak_rss_bytes=sensors.peak_rss_bytes(),
        cpu_temperature_c=sensors.cpu_temperature_c(),
        throttled=sensors.throttled(),
    )


class Memory(Protocol):
    """What an agent remembers across restarts; see `Spool`."""

    def keep_carry(self, run_id: str, round_number: int, carry: Carry) -> None:
        """Remember what was carried out of a round, whatever happens from now on."""

    def keep(self, update: PendingUpdate) -> None:
        """Remember an update, whose carry is remembered already."""

    def keep_model(self, run_id: str, model: HeldModel) -> None:
        """Remember the model that is held, in place of the one before."""

    def forget_update(self, run_id: str, round_number: int, *, accepted: bool) -> None:
        """The round is closed: the update goes, and unless it was accepted, its carry too."""

    def forget_carries_before(self, run_id: str, round_number: int) -> None:
        """Remove carries of earlier rounds."""

    def forget_other_runs(self, run_id: str) -> None:
        """Remove everything of other runs."""


@dataclass(slots=True)
class Outside:
    """All that an agent's service acts on."""

    topics: Topics
    agent_id: str
    transport: Transport
    jobs: Jobs
    spool: Memory
    trainer: RoundTrainer
    measure: Callable[[str, int, Traffic], Measured] = measure


@dataclass(slots=True)
class _Job:
    """A job whose result is wanted now; its name tells that from the results of abandoned ones."""

    name: str
    run_id: str
    round_number: int
    stopped: bool = False

    def should_stop(self) -> bool:
        """Asked by the thread that does it, between two batches."""
        return self.stopped


class AgentService:
    """One agent, to be driven by `transport.driver`.

    Attributes:
        taken_over: True when another process connected under this agent's id; this one then ends for good.
    """

    def __init__(self, engine: ParticipantEngine, outside: Outside) -> None:
        self._engine = engine
        self._outside = outside
        self._inbox = Inbox(outside.topics, outside.agent_id)
        self._training: _Job | None = None
        self._derivation: _Job | None = None
        self._jobs = 0
        self._finished = False
        self.taken_over = False

    @property
    def finished(self) -> bool:
        """True when the driver should return."""
        return self._finished

    @property
    def phase(self) -> str:
        """What the agent is doing, in a word."""
        return self._engine.phase.value

    def wake_at_s(self) -> float:
        """Monotonic time of the next thing that becomes due."""
        return self._engine.wake_at_s()

    def on_time(self, now: Instant) -> None:
        """Do what is due."""
        self._handle(TimePassed(), now)

    def on_event(self, event: TransportEvent, now: Instant) -> None:
        """Take one event from the transport, a job or the driver."""
        match event:
            case Received(message=message):
                event_read = self._inbox.read(message.topic, message.payload, retained=message.retain)
                if event_read is not None:
                    self._handle(event_read, now)
            case Connected(max_packet_bytes=max_packet_bytes):
                log.info("connected to the broker")
                self._handle(ConnectionGained(max_packet_bytes), now)
            case Disconnected(reason=reason):
                log.warning("not connected: %s", reason)
                self._handle(ConnectionLost(), now)
            case JobDone():
                self._on_job_done(event, now)
            case StopRequested():
                self._handle(StopAsked(), now)

    def _on_job_done(self, event: JobDone, now: Instant) -> None:
        derivation, training = self._derivation, self._training
        if derivation is not None and event.name == derivation.name:
            self._derivation = None
            weights = event.result if isinstance(event.result, Mapping) else None
            error = str(event.error or "")
            self._handle(ModelDerived(derivation.run_id, derivation.round_number, weights, error), now)
            return
        if training is None or event.name != training.name:
            return
        self._training = None
        if isinstance(event.result, TrainingFinished):
            self._handle(event.result, now)
        else:
            log.error("training of round %d failed", training.round_number, exc_info=event.error)
            self._handle(TrainingFailed(training.run_id, training.round_number, str(event.error)), now)

    def _handle(self, event: Event, now: Instant) -> None:
        for action in self._engine.handle(event, now):
            self._perform(action, now)

    def _perform(self, action: Action, now: Instant) -> None:
        match action:
            case Publish():
                self._publish(action)
            case DeriveModel():
                self._derive_model(action)
            case StartTraining():
                self._start_training(action)
            case StopTraining():
                self._stop_training()
            case Measure():
                self._handle(
                    self._outside.measure(action.run_id, action.round_number, self._outside.transport.traffic), now
                )
            case KeepCarry():
                self._handle(self._keep_carry(action), now)
            case Tell():
                log.log(logging.WARNING if action.warning else logging.INFO, "%s", action.text)
            case End(taken_over=taken_over):
                self._end(taken_over=taken_over)
            case _:
                self._remember(action)

    def _keep_carry(self, action: KeepCarry) -> CarryKept:
        try:
            self._outside.spool.keep_carry(action.run_id, action.round_number, action.carry)
        except StorageError as error:
            return CarryKept(action.run_id, action.round_number, str(error))
        return CarryKept(action.run_id, action.round_number)

    def _remember(self, action: Action) -> None:
        spool = self._outside.spool
        try:
            match action:
                case KeepUpdate(update=update):
                    spool.keep(update)
                case KeepModel():
                    spool.keep_model(action.run_id, action.model)
                case ForgetUpdate():
                    spool.forget_update(action.run_id, action.round_number, accepted=action.accepted)
                case ForgetCarriesBefore():
                    spool.forget_carries_before(action.run_id, action.round_number)
                case ForgetOtherRuns():
                    spool.forget_other_runs(action.run_id)
        except StorageError as error:
            log.error("%s: after a restart this must be trained or fetched again", error)

    def _end(self, *, taken_over: bool) -> None:
        if taken_over:
            log.error(
                "another process connected as agent %s: this one ends. Give every device its own agent id.",
                self._outside.agent_id,
            )
        self.taken_over = taken_over
        self._stop_training()
        self._finished = True

    def _publish(self, action: Publish) -> None:
        topic = self._outside.topics.build(action.address)
        try:
            self._outside.transport.publish(Message(topic, action.payload, action.retain, action.expiry_s))
        except TransportError as error:
            log.error("cannot send %s: %s", topic, error)

    def _derive_model(self, action: DeriveModel) -> None:
        self._derivation = derivation = self._new_job("derive", action.announcement)
        plan = action.announcement.plan
        self._outside.jobs.submit(derivation.name, lambda: self._outside.trainer.first_model(plan))

    def _new_job(self, what: str, announcement: RoundAnnouncement) -> _Job:
        self._jobs += 1
        return _Job(f"{what}-{self._jobs}", announcement.run_id, announcement.round_number)

    def _start_training(self, action: StartTraining) -> None:
        announcement = action.announcement
        self._training = training = self._new_job("train", announcement)
        log.info(
            "run_id=%s round_number=%d: training %d batches",
            announcement.run_id,
            announcement.round_number,
            announcement.plan.local_batches,
        )
        self._outside.jobs.submit(training.name, lambda: self._outside.trainer.train(action, training.should_stop))

    def _stop_training(self) -> None:
        if self._training is not None:
            self._training.stopped = True
            self._training = None
