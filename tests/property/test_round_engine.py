"""Whatever happens to the round engine, in any order: it never raises, counts once, and adds up what it accepted."""

import math
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coordinator.engine import Phase
from coordinator.events import (
    ChunkArrived,
    MessageRefused,
    NoteRefusal,
    Publish,
    ReportArrived,
    Started,
    UpdateArrived,
    UpdateOffered,
)
from schemas.errors import Reason
from schemas.messages import AgentReport, UpdateOffer
from schemas.weights import Array
from tests.unit.coordinator.engine_driver import RUN_ID, EngineDriver, three

AGENTS = st.sampled_from(["a", "b", "c", "stranger"])
ROUNDS = st.integers(0, 5)
RUNS = st.sampled_from([RUN_ID, RUN_ID, RUN_ID, "run-0"])
NUMBERS = st.floats(width=32, allow_nan=True, allow_infinity=True)
LOSSES = st.none() | st.floats(allow_nan=False, allow_infinity=False)
REPORT = dict.fromkeys(AgentReport.model_fields, 1) | {
    "v": "1.1",
    "throttled": None,
    **dict.fromkeys(("download_s", "train_s", "upload_s", "idle_s", "cpu_s", "loss", "cpu_temperature_c"), 1.0),
}


class AnyEvents(RuleBasedStateMachine):
    """One run, with everything that can come from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = EngineDriver(
            min_agents=2,
            min_updates=2,
            allowed=frozenset({"a", "b", "c"}),
            rounds=4,
            quorum=3,
            deadline_s=30.0,
            patience_s=200.0,
            max_attempts=4,
            max_update_norm=1e30,
            max_model_bytes=10_000_000,
        )
        self.sent: dict[str, tuple[dict[str, Array], int]] = {}

    @initialize(claimed=st.sampled_from([True, True, True, False]))
    def start(self, claimed: bool) -> None:
        """Mostly with the federation claimed, and two agents there."""
        if claimed:
            self.driver.begin("a", "b")
        else:
            self.driver.handle(Started())
            self.driver.connect()

    @precondition(lambda self: self.driver.engine.open_round is not None)
    @rule(agent_id=AGENTS, numbers=st.tuples(NUMBERS, NUMBERS, NUMBERS), n=st.integers(0, 2**32), loss=LOSSES)
    def update_comes(self, agent_id: str, numbers: tuple[float, float, float], n: int, loss: float | None) -> None:
        """A well-formed update, with any numbers."""
        self._deliver(agent_id, three(*numbers), n, loss=loss)

    @precondition(lambda self: self.driver.engine.open_round is not None)
    @rule(agent_id=AGENTS, number=st.integers(-50, 50), n=st.integers(1, 1000))
    def good_update_comes(self, agent_id: str, number: int, n: int) -> None:
        """An update that nothing is wrong with, but perhaps its sender."""
        self._deliver(agent_id, three(number, 0.5, -number), n)

    @precondition(lambda self: self.driver.engine.open_round is not None)
    @rule(numbers=st.lists(st.integers(-50, 50), min_size=3, max_size=3))
    def all_deliver(self, numbers: list[int]) -> None:
        """Whoever is waited for sends what it should; without this, few rounds would come to their end."""
        open_round = self.driver.engine.open_round
        assert open_round is not None
        for agent_id, number in zip(open_round.missing(), numbers, strict=False):
            if self.driver.engine.open_round is open_round:
                self._deliver(agent_id, three(number, 0, 1), 1 + abs(number))

    def _deliver(self, agent_id: str, weights: dict[str, Array], n: int, **header: Any) -> None:
        open_round = self.driver.engine.open_round
        assert open_round is not None
        accepted, closed = set(open_round.accepted), len(self.driver.records())
        if not accepted:
            self.sent = {}
        self.driver.deliver(agent_id, weights, n, **header)
        now_open = self.driver.engine.open_round
        counted = now_open is not open_round or open_round.accepted != accepted
        if counted:
            assert agent_id not in accepted
            assert agent_id not in self.sent
            self.sent[agent_id] = (weights, n)
        if len(self.driver.records()) > closed:
            self._check_mean()

    def _check_mean(self) -> None:
        record = self.driver.records()[-1]
        assert set(record.accepted) == set(self.sent)
        assert record.num_examples == sum(n for _, n in self.sent.values())
        total = sum(n for _, n in self.sent.values())
        mean = sum(weights["w"].astype(np.float64) * (n / total) for weights, n in self.sent.values())
        np.testing.assert_allclose(self.driver.engine.model["w"], mean, rtol=1e-5, atol=1e-6)

    @rule(agent_id=AGENTS, run_id=RUNS, number=ROUNDS, payload=st.binary(max_size=300))
    def bytes_come(self, agent_id: str, run_id: str, number: int, payload: bytes) -> None:
        """Anything, on the topic of an update."""
        self.driver.handle(UpdateArrived(agent_id, run_id, number, payload))

    @rule(agent_id=AGENTS, run_id=RUNS, number=ROUNDS, cut=st.integers(0, 500), byte=st.integers(0, 255))
    def damaged_update_comes(self, agent_id: str, run_id: str, number: int, cut: int, byte: int) -> None:
        """An update with one byte changed, and perhaps of another round; it may still be right."""
        payload = bytearray(self.driver.update("stranger", round_number=number))
        payload[cut % len(payload)] = byte
        self.driver.handle(UpdateArrived(agent_id, run_id, number, bytes(payload)))

    @rule(agent_id=AGENTS, run_id=RUNS, number=ROUNDS, size=st.integers(0, 2**48), index=st.integers(0, 9))
    def offer_and_chunk_come(self, agent_id: str, run_id: str, number: int, size: int, index: int) -> None:
        """An offer, and a chunk that does not belong to it."""
        self.driver.handle(UpdateOffered(agent_id, run_id, number, UpdateOffer(size_bytes=size, sha256="0" * 64)))
        self.driver.handle(ChunkArrived(agent_id, run_id, number, index, b"chunk"))

    @rule(agent_id=AGENTS, run_id=RUNS, number=ROUNDS)
    def report_comes(self, agent_id: str, run_id: str, number: int) -> None:
        """A report of any round."""
        self.driver.handle(ReportArrived(agent_id, run_id, number, AgentReport.model_validate(REPORT)))

    @rule(agent_id=AGENTS, minor=st.integers(0, 3), instance=st.sampled_from("12"), retained=st.booleans())
    def agent_comes(self, agent_id: str, minor: int, instance: str, retained: bool) -> None:
        """A status."""
        self.driver.join(agent_id, minor=minor, instance=instance, retained=retained)

    @rule(agent_id=AGENTS, instance=st.sampled_from("12"))
    def agent_goes(self, agent_id: str, instance: str) -> None:
        """A will."""
        self.driver.leave(agent_id, instance=instance)

    @rule(agent_id=AGENTS, want=st.sampled_from(["state", "model", "chunks"]), number=st.none() | ROUNDS)
    def agent_asks(self, agent_id: str, want: str, number: int | None) -> None:
        """A request."""
        self.driver.ask(agent_id, want, number, first=2**40, count=64)

    @rule(agent_id=AGENTS | st.just(""), run_id=RUNS, number=ROUNDS)
    def unreadable_message_comes(self, agent_id: str, run_id: str, number: int) -> None:
        """Something that the inbox could not read."""
        self.driver.handle(MessageRefused(agent_id, Reason.UNKNOWN_TOPIC, "?", run_id, number))

    @rule(session=st.sampled_from(["050", "200"]), claim=st.booleans(), retained=st.booleans())
    def other_coordinator_speaks(self, session: str, claim: bool, retained: bool) -> None:
        """One that claims, or one that was stopped for a while."""
        self.driver.hear(session, state="online" if claim else "offline", claim=claim, retained=retained)

    @rule(connected=st.booleans())
    def connection_changes(self, connected: bool) -> None:
        """The broker comes or goes, perhaps again."""
        if connected:
            self.driver.connect()
        else:
            self.driver.disconnect()

    @rule(seconds=st.floats(0, 40))
    def time_passes(self, seconds: float) -> None:
        """Some time, without regard to what is due."""
        closed = len(self.driver.records())
        self.driver.wait(seconds)
        if len(self.driver.records()) > closed:
            self._check_mean()

    @invariant()
    def wakes_up_in_time_and_not_for_ever(self) -> None:
        """Whoever does as `wake_at_s` says gets to a moment in the future, or to never."""
        for _ in range(20):
            wake_at_s = self.driver.engine.wake_at_s()
            if wake_at_s > self.driver.now_s:
                return
            self.driver.wait(0.0)
        raise AssertionError(f"still due: {wake_at_s} in {self.driver.engine.phase}")

    @invariant()
    def agents_see_nothing_of_a_claim(self) -> None:
        """No message goes to an agent, and nothing is held against one."""
        if self.driver.is_in(Phase.OFFLINE, Phase.CLAIMING):
            assert not [a for a in self.driver.done if isinstance(a, Publish) and a.address.agent_id]
            assert not [a for a in self.driver.done if isinstance(a, NoteRefusal) and a.agent_id]

    @invariant()
    def no_round_is_closed_twice(self) -> None:
        """Rounds are recorded in order, one by one."""
        numbers = [record.round_number for record in self.driver.records()]
        assert numbers == list(range(1, len(numbers) + 1))

    @invariant()
    def every_accepted_update_was_selected(self) -> None:
        """No record holds an agent that was not asked."""
        for record in self.driver.records():
            assert set(record.accepted) <= set(record.selected)
            assert len(set(record.accepted)) == len(record.accepted)

    def teardown(self) -> None:
        """Whatever came before: left alone with a broker, the run comes to an end."""
        self.driver.connect()
        for _ in range(200):
            wake_at_s = self.driver.engine.wake_at_s()
            if wake_at_s == math.inf:
                break
            self.driver.wait(max(0.0, wake_at_s - self.driver.now_s))
        assert self.driver.is_in(Phase.OVER)


TestAnyEvents = AnyEvents.TestCase
TestAnyEvents.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
