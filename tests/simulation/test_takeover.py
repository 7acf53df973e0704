"""Two processes of one agent in a run: the older one ends for good, the newer one takes part, nobody else notices."""

import logging

import pytest

from coordinator.engine import RoundEngine
from coordinator.rules import RoundRules
from coordinator.service import CoordinatorService, Outside, Score
from coordinator.strategies import make_strategy
from schemas import wire
from schemas.messages import CoordinatorStatus, TrainingPlan
from schemas.records import RunEvent
from schemas.topics import Address, Kind, Topics
from simulation.arithmetic import FIRST, ArithmeticTrainer
from simulation.connection import VirtualTransport
from simulation.disk import MemoryDisk
from simulation.faults import NO_FAULTS, Faults
from simulation.memory import MemorySpool
from simulation.network import VirtualNetwork
from simulation.party import add_agent
from transport.ports import Message, SessionSpec

RUN_ID = "takeover"
TOPICS = Topics()
PLAN = TrainingPlan(model="three", local_batches=1, batch_size=1, learning_rate=1.0, seed=0)
RULES = RoundRules(run_id=RUN_ID, plan=PLAN, rounds=30, min_agents=2, min_updates=2, deadline_s=60.0)
ROUND_S = 5.0
GAVE_WAY = "another process connected as agent room-1: this one ends"


class Run:
    """A coordinator and two rooms; the takeover is that of room-1."""

    def __init__(self, seed: int = 0, faults: Faults = NO_FAULTS) -> None:
        self.network = VirtualNetwork(seed, faults)
        self.disk = MemoryDisk()
        engine = RoundEngine(RULES, make_strategy(PLAN), FIRST, "session")
        gone = CoordinatorStatus(state="offline", session="session", run_id=RUN_ID)
        will = Message(TOPICS.build(Address(Kind.COORDINATOR_STATUS)), wire.encode(gone, 0), retain=True)
        transport = self.network.transport(SessionSpec("coordinator", tuple(TOPICS.coordinator_filters()), will))
        jobs = self.network.jobs()
        outside = Outside(TOPICS, transport, jobs, self.disk, lambda _: Score(0.0, 0.0), self.network.clock)
        self.service = CoordinatorService(engine, outside)
        self.network.add(self.service, transport, jobs)
        self.start("room-2", "only")

    def start(self, agent_id: str, instance: str) -> VirtualTransport:
        """Start a process of an agent."""
        trainer = ArithmeticTrainer(agent_id)
        return add_agent(
            self.network, TOPICS, trainer, agent_id, MemorySpool(), lambda _name, _result: ROUND_S, instance
        )

    def start_at(self, moment_s: float, agent_id: str, instance: str) -> None:
        """Start a process of an agent later."""

        def start() -> None:
            self.start(agent_id, instance)

        self.network.at(moment_s, start)

    def finish(self) -> None:
        """Let the run come to its end."""
        assert self.network.run(until=lambda: bool(self.service.outcome))
        assert self.service.outcome == "finished"

    def events(self, agent_id: str) -> list[str]:
        """What the coordinator noticed of an agent."""
        return [
            record.name for record in self.disk.records if isinstance(record, RunEvent) and record.agent_id == agent_id
        ]


def test_older_process_ends_and_every_round_has_both_rooms(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    run = Run()
    run.start("room-1", "older")
    run.start_at(3.2 * ROUND_S, "room-1", "newer")

    run.finish()

    assert caplog.text.count(GAVE_WAY) == 1
    assert all(record.accepted == ("room-1", "room-2") for record in run.disk.rounds().values())
    assert [record.attempt for record in run.disk.rounds().values()] == [1] * 30
    assert "agent-offline" not in run.events("room-1")


def test_processes_come_to_rest_when_three_of_them_are_started_together(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    run = Run()
    for number, moment in enumerate((0.1, 10.0, 10.4)):
        run.start_at(moment, "room-1", f"number-{number}")

    run.finish()

    assert caplog.text.count(GAVE_WAY) == 2
    assert all(record.accepted == ("room-1", "room-2") for record in list(run.disk.rounds().values())[10:])


def test_restarted_process_stays_when_the_one_before_was_killed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    run = Run()
    killed = run.start("room-1", "killed")
    run.network.at(12.0, lambda: run.network.crash(killed, silently=True))
    run.start_at(14.0, "room-1", "restarted")

    run.finish()

    assert GAVE_WAY not in caplog.text


@pytest.mark.parametrize("keep_retained", [True, False])
def test_agents_stay_when_the_broker_is_restarted(keep_retained: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    run = Run()
    run.start("room-1", "only")
    for moment in (7.0, 23.0, 31.0):
        run.network.at(moment, lambda: run.network.restart_broker(keep_retained=keep_retained))

    run.finish()

    assert GAVE_WAY not in caplog.text
    assert all(record.accepted == ("room-1", "room-2") for record in run.disk.rounds().values())


@pytest.mark.parametrize("seed", range(20))
def test_one_process_is_left_on_a_bad_line(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    run = Run(seed, Faults(cut=0.03, delay_s=0.1, until_s=300.0))
    run.start("room-1", "older")
    run.start_at(12.0, "room-1", "newer")

    run.finish()

    assert caplog.text.count(GAVE_WAY) == 1
