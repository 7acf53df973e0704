"""An agent and an honest coordinator, with everything between them going wrong: messages lost, late and twice, broken
connections, kills at any step, a full disk, a coordinator that starts again.

Training is a function of the model and of what is carried, so that the right bytes of every update are known. Whatever
happens: an update of one round always has the same bytes; training starts from exactly what the last update that
counted has carried on; nothing goes out that could not be made again after a kill; and left in peace, the agent
delivers.
"""

from collections.abc import Callable

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from edge_agent.engine import ParticipantEngine
from edge_agent.events import (
    Action,
    CarryKept,
    ConnectionGained,
    ConnectionLost,
    Event,
    ForgetCarriesBefore,
    ForgetOtherRuns,
    ForgetUpdate,
    KeepCarry,
    KeepUpdate,
    Measure,
    Measured,
    Publish,
    StartTraining,
    StopTraining,
    TimePassed,
    TrainingFailed,
    TrainingFinished,
)
from edge_agent.polling import MAX_WAIT_S
from schemas.errors import StorageError
from schemas.measures import Instant, Traffic
from schemas.topics import Kind
from schemas.weights import Weights
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
    status,
    stood,
)

LIVES = st.integers(0, 4)


class KilledError(Exception):
    """The agent's process dies here."""


class HonestRun(RuleBasedStateMachine):
    """One run of one agent.

    `closed`, `last_accepted`, `attempt` and `counted` are the coordinator's. `carried` is what updates that counted
    have carried on, by round, and is what training must start from; `safe` is the last round whose update was sent
    while there was room for it on the disk.
    """

    def __init__(self) -> None:
        super().__init__()
        self.spool = MemorySpool()
        self.engine = ParticipantEngine(AGENT, INSTANCE)
        self.now_s = 0.0
        self.connected = False
        self.lives: int | None = None
        self.training: StartTraining | None = None
        self.on_the_way: dict[int, bytes] = {}
        self.blobs: dict[int, bytes] = {}
        self.kept = self.safe = 0
        self.sessions = 1
        self.closed = self.last_accepted = 0
        self.attempt = 1
        self.counted = self.announced = False
        self.carried = {0: 0.0}
        self.step(ConnectionGained(MAX_PACKET_BYTES))
        self.connected = True
        self.step(coordinator("session-1"))

    # -- the agent and its disk

    def step(self, *events: Event) -> None:
        """Hand over events; a kill is followed by the next process, with what the disk holds."""
        self.kept = 0
        try:
            for event in events:
                self.handle(event)
        except KilledError:
            self.restart()
        else:
            self.safe = self.kept or self.safe

    def handle(self, event: Event) -> None:
        for action in self.engine.handle(event, Instant(self.now_s, 0.0)):
            if self.lives is not None:
                self.lives -= 1
                if self.lives < 0:
                    raise KilledError
            self.perform(action)

    def perform(self, action: Action) -> None:
        match action:
            case StartTraining():
                assert self.training is None, "two trainings at a time"
                self.check_start(action)
                self.training = action
            case StopTraining():
                self.training = None
            case KeepCarry():
                self.handle(self.keep_carry(action))
            case KeepUpdate(update=update):
                self.remember(lambda: self.spool.keep(update))
            case ForgetUpdate(run_id=run_id, round_number=number, accepted=was_accepted):
                assert not (self.counted and number == self.closed + 1), "it may be needed again"
                self.spool.forget_update(run_id, number, accepted=was_accepted)
            case ForgetCarriesBefore(run_id=run_id, round_number=number):
                self.spool.forget_carries_before(run_id, number)
            case ForgetOtherRuns(run_id=run_id):
                self.spool.forget_other_runs(run_id)
            case Publish():
                self.check_message(action)
            case Measure():
                self.handle(Measured(action.run_id, action.round_number, Traffic(), 0.0, 0))

    def keep_carry(self, action: KeepCarry) -> CarryKept:
        kept = self.remember(lambda: self.spool.keep_carry(action.run_id, action.round_number, action.carry))
        return CarryKept(action.run_id, action.round_number, "" if kept else "the disk is full")

    def remember(self, keep: Callable[[], None]) -> bool:
        try:
            keep()
        except StorageError:
            return False
        return True

    def restart(self) -> None:
        run_id, pending, carries = self.spool.load()
        self.engine = ParticipantEngine(AGENT, INSTANCE, pending, carries, run_id)
        self.lives, self.training, self.connected = None, None, False
        self.on_the_way.clear()

    def check_start(self, start: StartTraining) -> None:
        assert start.announcement.last_accepted_round == self.last_accepted
        assert start.announcement.round_number != self.safe, "trained again, although it was made and could be kept"
        expected = carry(self.carried[self.last_accepted]) if self.last_accepted else {}
        assert start.carry.keys() == expected.keys(), "not what the last update that counted has carried on"
        assert all(np.array_equal(start.carry[name], array) for name, array in expected.items())

    def check_message(self, message: Publish) -> None:
        number = message.address.round_number
        if message.address.kind is Kind.UPDATE:
            assert self.blobs.setdefault(number, bytes(message.payload)) == message.payload, "other bytes than before"
            assert self.spool.carry_of(RUN, number) is not None, "sent, although what it carries is not on the disk"
            self.kept = 0 if self.spool.full else number
            if self.connected:
                self.on_the_way[number] = bytes(message.payload)

    # -- what the coordinator says

    def model(self) -> Weights:
        return model(self.closed + 0.25 * self.last_accepted)

    def announce(self, *, with_model: bool = True) -> None:
        self.announced = True
        if not self.connected:
            return
        number = self.closed + 1
        said = announced(number, self.model(), last_accepted_round=self.last_accepted, attempt=self.attempt)
        self.step(said, *([arrived(number, self.model())] if with_model else []))

    @rule(steps=st.integers(1, 4), is_told=st.booleans())
    def round_goes_well(self, steps: int, is_told: bool) -> None:
        """Up to a point: without this, few rounds would come to their end."""
        self.connect()
        self.announce()
        if steps > 1:
            self.finish_training()
        if steps > 2:
            self.update_arrives(receipt_is_lost=not is_told)
        if steps > 3:
            self.round_closes(is_told)

    @rule(with_model=st.booleans())
    def round_is_announced(self, with_model: bool) -> None:
        """For the first time or again, with its model or without."""
        self.announce(with_model=with_model)

    @rule()
    def model_comes(self) -> None:
        """Of the open round, wanted or not."""
        if self.connected:
            self.step(arrived(self.closed + 1, self.model()))

    @rule(number=st.integers(1, 6), value=st.sampled_from([1.0, 50.0]))
    def another_model_comes(self, number: int, value: float) -> None:
        """Late, or of nobody knows what."""
        if self.connected:
            self.step(arrived(number, model(value)))

    @rule(receipt_is_lost=st.booleans())
    def update_arrives(self, receipt_is_lost: bool) -> None:
        """It counts in the open round, once."""
        for number in list(self.on_the_way):
            self.on_the_way.pop(number)
            if self.announced and number == self.closed + 1:
                self.counted = True
                if not receipt_is_lost and self.connected:
                    self.step(accepted(number))

    @rule()
    def updates_are_lost(self) -> None:
        """On their way."""
        self.on_the_way.clear()

    @precondition(lambda self: self.announced)
    @rule(is_told=st.booleans())
    def round_closes(self, is_told: bool) -> None:
        """With the update of this agent or without; the news may be lost."""
        self.closed += 1
        if self.counted:
            self.carried[self.closed] = self.carry_after(self.closed, self.carried[self.last_accepted])
            self.last_accepted = self.closed
        self.attempt, self.counted, self.announced = 1, False, False
        if is_told and self.connected:
            self.step(stood(self.closed, last_accepted_round=self.last_accepted))

    @precondition(lambda self: self.announced)
    @rule()
    def round_is_repeated(self) -> None:
        """Its deadline has passed; what had arrived does not count any more."""
        self.attempt += 1
        self.counted = False
        self.announce()

    @rule()
    def coordinator_starts_again(self) -> None:
        """What had arrived for the open round is lost with it, and it asks for it again."""
        self.sessions += 1
        self.attempt, self.counted = 1, False
        if self.connected:
            self.step(coordinator(f"session-{self.sessions}"))

    @precondition(lambda self: self.closed > 0)
    @rule(ago=st.integers(1, 3), value=st.sampled_from([1.0, 50.0]))
    def old_announcement_comes_late(self, ago: int, value: float) -> None:
        """Overtaken by the news of now."""
        if self.connected:
            self.step(stood(self.closed, last_accepted_round=self.last_accepted))
        if self.connected:
            number = max(1, self.closed + 1 - ago)
            self.step(announced(number, model(value)), arrived(number, model(value)))

    # -- what happens to the agent

    @precondition(lambda self: self.training is not None)
    @rule()
    def training_ends(self) -> None:
        """With what follows from the model and the carry."""
        self.finish_training()

    def finish_training(self) -> None:
        start, self.training = self.training, None
        if start is None:
            return
        number = start.announcement.round_number
        before = float(start.carry["momentum"][0]) if start.carry else 0.0
        weights = {"w": start.weights["w"] + np.float32(before + 1)}
        kept = carry(self.carry_after(number, before))
        self.step(TrainingFinished(RUN, number, weights, 1, 1, 0.5, kept))

    @staticmethod
    def carry_after(number: int, before: float) -> float:
        return number + before / 2

    @precondition(lambda self: self.training is not None)
    @rule()
    def training_fails(self) -> None:
        """For want of memory, say."""
        start, self.training = self.training, None
        assert start is not None
        self.step(TrainingFailed(RUN, start.announcement.round_number, "on purpose"))

    @rule(full=st.booleans())
    def disk_fills_up_or_is_freed(self, full: bool) -> None:
        """What is there stays."""
        self.spool.full = full

    @rule()
    def agent_is_killed(self) -> None:
        """Between two events."""
        self.restart()

    @rule(lives=LIVES)
    def agent_will_be_killed(self, lives: int) -> None:
        """In the middle of what comes next."""
        self.lives = lives

    @rule()
    def connection_breaks(self) -> None:
        """And is there again when a rule says so."""
        self.connected = False
        self.step(ConnectionLost())

    @rule()
    def connection_is_back(self) -> None:
        """The broker has kept the last will."""
        self.connect()

    def connect(self) -> None:
        if not self.connected:
            self.connected = True
            self.step(ConnectionGained(MAX_PACKET_BYTES))
        if self.connected:
            self.step(status(INSTANCE, "offline", retained=True))

    @rule(seconds=st.floats(0.0, 2 * MAX_WAIT_S))
    def time_passes(self, seconds: float) -> None:
        """And what is due is done."""
        end_s = self.now_s + seconds
        while (wake_at_s := self.engine.wake_at_s()) <= end_s:
            self.now_s = max(self.now_s, wake_at_s)
            self.step(TimePassed())
        self.now_s = end_s

    def teardown(self) -> None:
        """Left in peace, with room on the disk and a connection, the agent delivers the open round."""
        self.lives, self.spool.full = None, False
        self.connect()
        self.sessions += 1
        self.step(coordinator(f"session-{self.sessions}"))
        self.attempt, self.counted = self.attempt + 1, False
        self.announce()
        self.finish_training()
        self.time_passes(10 * MAX_WAIT_S)
        assert self.closed + 1 in self.on_the_way
        self.update_arrives(receipt_is_lost=False)
        assert self.counted


TestHonestRun = HonestRun.TestCase
TestHonestRun.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
