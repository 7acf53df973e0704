"""Whatever happens to an agent, in whatever order: what must always hold of its engine."""

import contextlib
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.engine import ParticipantEngine
from edge_agent.events import (
    Action,
    CarryKept,
    ChunkArrived,
    ChunksAsked,
    ConnectionGained,
    ConnectionLost,
    End,
    Event,
    ForgetCarriesBefore,
    ForgetOtherRuns,
    ForgetUpdate,
    KeepCarry,
    KeepUpdate,
    Measure,
    Measured,
    MessageRefused,
    ModelArrived,
    PendingUpdate,
    Publish,
    StartTraining,
    StopAsked,
    StopTraining,
    TimePassed,
    TrainingFailed,
    TrainingFinished,
)
from edge_agent.letters import UPDATE_EXPIRY_S
from edge_agent.polling import MAX_WAIT_S
from schemas import wire
from schemas.errors import StorageError
from schemas.measures import Instant, Traffic
from schemas.messages import AgentStatus, ChunksWanted
from schemas.topics import Kind
from simulation.memory import MemorySpool
from tests.unit.edge_agent.scripted import (
    AGENT,
    INSTANCE,
    MAX_PACKET_BYTES,
    RUN,
    accepted,
    announced,
    arrived,
    carry,
    coordinator,
    model,
    refused,
    status,
    stood,
)

ROUNDS = st.integers(1, 4)
RUNS = st.sampled_from([RUN, RUN, RUN, "run-2"])
INSTANCES = st.sampled_from([INSTANCE, INSTANCE, INSTANCE, "another"])

EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.just(ConnectionGained(MAX_PACKET_BYTES)),
    st.just(ConnectionLost()),
    st.just(TimePassed()),
    st.builds(
        coordinator, st.sampled_from(["one", "two"]), st.sampled_from(["online", "offline"]), claim=st.booleans()
    ),
    st.builds(status, INSTANCES, st.sampled_from(["online", "offline"]), retained=st.booleans()),
    st.builds(
        announced,
        ROUNDS,
        st.builds(model, st.sampled_from([1.0, 1.0, 2.0])),
        run_id=RUNS,
        last_accepted_round=st.integers(0, 3),
        attempt=st.integers(1, 3),
        recorded_reports=st.sampled_from([(), (1,), (1, 2)]),
        chunk_bytes=st.sampled_from([1024, 1024 * 1024]),
        in_chunks=st.booleans(),
        minor=st.integers(0, 1),
    ),
    st.builds(arrived, ROUNDS, st.builds(model, st.sampled_from([1.0, 1.0, 2.0])), RUNS),
    st.builds(ModelArrived, RUNS, ROUNDS, st.binary(max_size=40)),
    st.builds(ChunkArrived, RUNS, ROUNDS, st.integers(0, 3), st.binary(max_size=40)),
    st.builds(
        stood,
        st.integers(0, 4),
        st.sampled_from(["waiting", "waiting", "finished", "aborted"]),
        last_accepted_round=st.integers(0, 4),
        run_id=RUNS,
    ),
    st.builds(accepted, ROUNDS),
    st.builds(refused, ROUNDS),
    st.builds(
        lambda number, first: ChunksAsked(ChunksWanted(run_id=RUN, round_number=number, first=first, count=4)),
        ROUNDS,
        st.integers(0, 5),
    ),
    st.just(MessageRefused("a topic", "a reason")),
    st.just(StopAsked()),
)
"""Everything but the end of a training, which only comes when one was started."""

STEPS = st.lists(
    st.one_of(
        EVENTS,
        st.sampled_from(["trained", "failed", "disk full", "disk free", "killed"]),
        st.floats(0.0, 2 * MAX_WAIT_S).map(lambda seconds: ("wait", seconds)),
    ),
    max_size=40,
)


class World:
    """An engine with a trainer, a disk and a watch on what it asks for."""

    def __init__(self) -> None:
        self.engine = ParticipantEngine(AGENT, INSTANCE)
        self.spool = MemorySpool()
        self.now_s = 0.0
        self.training: StartTraining | None = None
        self.trainings = 0
        self.connected = self.over = False
        self.blobs: dict[tuple[str, int], bytes] = {}

    def step(self, step: Any) -> None:
        if isinstance(step, tuple):
            self.wait(step[1])
        elif step == "killed":
            self.restart()
        elif step in ("disk full", "disk free"):
            self.spool.full = step == "disk full"
        elif isinstance(step, str):
            self.end_training(step)
        else:
            self.connected = (self.connected or isinstance(step, ConnectionGained)) and not isinstance(
                step, ConnectionLost
            )
            self.handle(step)

    def end_training(self, how: str) -> None:
        start, self.training = self.training, None
        if start is None:
            return
        run_id, number = start.announcement.run_id, start.announcement.round_number
        if how == "failed":
            self.handle(TrainingFailed(run_id, number, "on purpose"))
        else:
            self.trainings += 1
            weights = model(100.0 + self.trainings)
            self.handle(TrainingFinished(run_id, number, weights, 1, 1, 0.5, carry(self.trainings)))

    def restart(self) -> None:
        """The process is killed, and another one finds what is on the disk."""
        if self.over:
            return
        run_id, pending, carries = self.spool.load()
        if pending is None:
            self.blobs.clear()  # an update that could not be kept is made again, perhaps from something else
        self.engine = ParticipantEngine(AGENT, INSTANCE, pending, carries, run_id)
        self.training, self.connected = None, False

    def wait(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while (wake_at_s := self.engine.wake_at_s()) <= end_s:
            self.now_s = max(self.now_s, wake_at_s)
            self.handle(TimePassed())
            assert self.engine.wake_at_s() > self.now_s, "woken, and wants to be woken again at once"
        self.now_s = end_s

    def handle(self, event: Event) -> None:
        for action in self.engine.handle(event, Instant(self.now_s, 0.0)):
            self.perform(action)

    def perform(self, action: Action) -> None:
        assert not self.over, f"{action} after the end"
        match action:
            case StartTraining():
                assert self.training is None, "two trainings at a time"
                self.training = action
            case StopTraining():
                self.training = None
            case KeepCarry():
                self.handle(self.keep_carry(action))
            case KeepUpdate(update=update):
                self.note(update)
                with contextlib.suppress(StorageError):
                    self.spool.keep(update)
            case ForgetUpdate(run_id=run_id, round_number=number, accepted=was_accepted):
                self.blobs.pop((run_id, number), None)
                self.spool.forget_update(run_id, number, accepted=was_accepted)
            case ForgetCarriesBefore(run_id=run_id, round_number=number):
                self.spool.forget_carries_before(run_id, number)
            case ForgetOtherRuns(run_id=run_id):
                self.blobs = {key: blob for key, blob in self.blobs.items() if key[0] == run_id}
                self.spool.forget_other_runs(run_id)
            case Publish():
                self.check_message(action)
            case Measure():
                self.handle(Measured(action.run_id, action.round_number, Traffic(), 0.0, 0))
            case End():
                self.over = True

    def keep_carry(self, action: KeepCarry) -> CarryKept:
        try:
            self.spool.keep_carry(action.run_id, action.round_number, action.carry)
        except StorageError as error:
            return CarryKept(action.run_id, action.round_number, str(error))
        return CarryKept(action.run_id, action.round_number)

    def note(self, update: PendingUpdate) -> None:
        key = (update.run_id, update.round_number)
        assert self.blobs.setdefault(key, bytes(update.blob)) == update.blob, "another update of the same round"

    def check_message(self, message: Publish) -> None:
        address = message.address
        assert address.agent_id == AGENT
        assert message.retain == (address.kind is Kind.STATUS)
        if address.kind in (Kind.UPDATE, Kind.OFFER):
            on_disk = self.spool.carry_of(address.run_id, address.round_number)
            assert on_disk is not None, "sent, although what it carries is not on the disk"
        if address.kind is Kind.UPDATE:
            assert message.expiry_s == UPDATE_EXPIRY_S
            key = (address.run_id, address.round_number)
            assert self.blobs.setdefault(key, bytes(message.payload)) == message.payload, "other bytes than before"
        elif address.kind is Kind.STATUS:
            assert wire.decode(message.payload, AgentStatus).message.instance == INSTANCE


@given(STEPS)
@settings(max_examples=400)
def test_promises_hold_whatever_happens(steps: list[Any]) -> None:
    world = World()
    for step in steps:
        world.step(step)
        wake_at_s = world.engine.wake_at_s()
        assert not math.isnan(wake_at_s)
        if not world.connected or world.over:
            assert wake_at_s == math.inf
    world.wait(1000.0)


@given(STEPS)
def test_same_events_lead_to_the_same_actions(steps: list[Any]) -> None:
    left, right = World(), World()
    for step in steps:
        left.step(step)
        right.step(step)

    assert left.blobs == right.blobs
    assert left.engine.wake_at_s() == right.engine.wake_at_s()


@given(STEPS)
def test_agent_still_takes_part_in_a_new_run_after_anything_but_its_end(steps: list[Any]) -> None:
    world = World()
    for step in steps:
        world.step(step)
    if world.over:
        return

    world.step("disk free")
    world.step(ConnectionLost())
    world.step(ConnectionGained(MAX_PACKET_BYTES))
    world.step(status(retained=True))
    world.step(announced(1, run_id="run-3"))
    world.step(arrived(1, run_id="run-3"))

    if world.over:  # it had just heard of a newer process
        return
    assert world.training is not None
    assert world.training.announcement.run_id == "run-3"
    world.step("trained")
    assert ("run-3", 1) in world.blobs
