"""Each party is killed, suspended or restarted at each phase of a round: the run ends as if nothing had happened.

The phase is reached exactly: the process that is in it stops itself there (see `halting_party.py`). Nothing here waits
for time to pass; a party stays suspended until the broker, or everybody else, has given it up.

Left out of agent, coordinator and broker times every phase: nothing, except that the broker alone can lose a database.
"""

import signal
import tomllib
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from coordinator import checkpoints
from coordinator.commands.conversation import EXIT_STOPPED
from coordinator.config import RunConfig
from coordinator.run_folder import RunFolder
from mosquitto.broker import PrivateBroker
from schemas.records import RoundRecord
from schemas.weights import digest
from simulation.runner import simulate
from tests.integration.federation import RUN_ID, Federation, small_digits
from tests.integration.forked_process import ForkedProcess
from tests.integration.halting_party import AGENT_POINTS, COORDINATOR_POINTS, Halt

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

AGENTS = 2
ROUNDS = 3
STRUCK = 2
"""The round that the fault falls into: one is behind it, and one is still to come."""

AGENT = "room-2"
SETTINGS = f"""
[training]
local_batches = 3
batch_size = 16
strategy = "scaffold"
learning_rate = 0.05
[rounds]
count = {ROUNDS}
min_agents = {AGENTS}
min_updates = {AGENTS}
deadline_s = 100
patience_s = 60
chunk_kib = 16
[data]
dataset = "none"
"""
PHASES = ("announcement", "download", "training", "upload", "aggregation", "checkpoint")
CASES = [
    *product(("agent", "coordinator"), PHASES, ("kill", "suspend", "restart")),
    *product(("broker",), PHASES, ("kill", "kill-and-forget", "suspend", "restart")),
]
MERELY_LATE = {"duplicate", "stale-round", "wrong-base", "not-selected"}
"""Refusals of what was sent once more, or for the round before."""


class PhasedFederation(Federation):
    """Two agents and a coordinator, one of which stops itself in a phase."""

    def __init__(self, folder: Path, broker: PrivateBroker) -> None:
        super().__init__(folder, broker, AGENTS, SETTINGS, ForkedProcess)

    def party(self, name: str) -> ForkedProcess:
        """A process by the name of its party."""
        process = self.coordinator if name == "coordinator" else self.agents[name]
        assert isinstance(process, ForkedProcess)
        return process

    def start_until(self, phase: str) -> ForkedProcess:
        """Start, and wait until the party that is in this phase stands still there."""
        assert phase in (*AGENT_POINTS, *COORDINATOR_POINTS)
        halted = self.party(AGENT if phase in AGENT_POINTS else "coordinator")
        halted.halt = Halt(phase, STRUCK)
        self.start()
        self.wait_until(lambda: halted.stands_still, f"{halted.name} to come to {phase}")
        return halted

    def start_again(self, process: ForkedProcess) -> None:
        """After a kill or an end."""
        if process is self.coordinator:
            self.resume()
        else:
            process.start()

    def wait_until_given_up(self, name: str) -> None:
        """Wait until the broker has ended the silent connection of a suspended party."""
        client = f"coordinator-{RUN_ID}" if name == "coordinator" else name
        said = f"Client {client} has exceeded timeout"
        self.wait_until(lambda: said in self.broker.log(), f"the broker to give up {name}")

    def wait_until_all_lost_the_broker(self) -> None:
        """Wait until every party has given up a suspended broker."""
        self.wait_until(
            lambda: (
                all("not connected" in agent.log() for agent in self.agents.values())
                and bool(self.events("broker-lost"))
            ),
            "all to give up the broker",
        )


def strike_process(federation: PhasedFederation, victim: ForkedProcess, halted: ForkedProcess, action: str) -> None:
    """Do something to a process while another one, or itself, stands still; then let everything go on."""
    if action == "suspend":
        victim.signal(signal.SIGSTOP)
        if victim is not halted:
            halted.go_on()
        federation.wait_until_given_up(victim.name)
        victim.go_on()
        return
    if action == "kill":
        victim.kill()
    else:
        victim.signal(signal.SIGTERM)
        victim.go_on()
        assert victim.wait() == (EXIT_STOPPED if victim is federation.coordinator else 0), victim.log()
    if victim is not halted:
        halted.go_on()
    federation.start_again(victim)


def strike_broker(federation: PhasedFederation, halted: ForkedProcess, action: str) -> None:
    """Do something to the broker while a party stands still; then let everything go on."""
    broker = federation.broker
    if action == "suspend":
        broker.suspend()
        halted.go_on()
        federation.wait_until_all_lost_the_broker()
        broker.resume()
        return
    if action == "restart":
        broker.stop()
    else:
        broker.save()  # there is something to lose, and to come back to
        broker.kill()
    if action == "kill-and-forget":
        (broker.folder / "data" / "mosquitto.db").unlink()
    halted.go_on()
    broker.start()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The digests of the global model after each round when nothing happens: from the simulation."""
    runs = tmp_path_factory.mktemp("undisturbed")
    config = RunConfig.model_validate(tomllib.loads(SETTINGS) | {"runs_folder": runs, "run_id": RUN_ID})
    rooms = {f"room-{i}": small_digits(i) for i in range(1, AGENTS + 1)}
    assert simulate(config, rooms).outcome == "finished"
    records = RunFolder.open(runs, RUN_ID).records(("round",))
    digests = [record.model_sha256 for record in records if isinstance(record, RoundRecord)]
    assert len(set(digests)) == ROUNDS
    return digests


@pytest.fixture
def federation(mosquitto_program: str, tmp_path: Path) -> Iterator[PhasedFederation]:
    """Two agents and a coordinator on a broker that may be broken, not started."""
    assert mosquitto_program
    users = ["coordinator", *(f"room-{i}" for i in range(1, AGENTS + 1))]
    with (
        PrivateBroker(tmp_path / "broker", {user: f"password of {user}" for user in users}) as broker,
        PhasedFederation(tmp_path, broker) as federation,
    ):
        yield federation


@pytest.mark.parametrize(("party", "phase", "action"), CASES)
def test_run_ends_as_if_nothing_had_happened_when_a_party_fails_in_a_phase(
    federation: PhasedFederation, undisturbed: list[str], party: str, phase: str, action: str
) -> None:
    halted = federation.start_until(phase)
    if party == "broker":
        strike_broker(federation, halted, action)
    else:
        strike_process(federation, federation.party(AGENT if party == "agent" else party), halted, action)
    rounds = federation.finish()

    check_models(federation, rounds, undisturbed)
    check_nothing_counted_twice(federation, rounds)
    check_record(federation, party, phase, action)


def check_models(federation: PhasedFederation, rounds: list[RoundRecord], undisturbed: list[str]) -> None:
    """All agents were accepted in each round, as in the undisturbed run; so are the bytes of the models the same."""
    assert [record.model_sha256 for record in rounds] == undisturbed
    newest = checkpoints.load_latest(RunFolder.open(federation.runs, RUN_ID).checkpoints_path)
    assert newest is not None
    assert (newest.round_number, digest(newest.weights), newest.damaged) == (ROUNDS, undisturbed[-1], ())


def check_nothing_counted_twice(federation: PhasedFederation, rounds: list[RoundRecord]) -> None:
    """One record of each round with one update of each agent, in the first attempt, and one report of each at most."""
    examples = sum(len(small_digits(i).labels) for i in range(1, AGENTS + 1))
    assert [record.round_number for record in rounds] == [1, 2, 3]
    assert all(record.accepted == ("room-1", "room-2") for record in rounds)
    assert {(record.num_examples, record.attempt) for record in rounds} == {(examples, 1)}
    reports = Counter((record.round_number, record.agent_id) for record in federation.devices())
    assert max(reports.values()) == 1
    refused = {reason for record in rounds for tally in record.refused.values() for reason in tally}
    assert refused <= MERELY_LATE


def check_record(federation: PhasedFederation, party: str, phase: str, action: str) -> None:
    """The record says what happened, and nothing that did not."""
    began_anew = party == "coordinator" and action != "suspend"
    assert len(federation.events("resumed")) == began_anew
    assert len(federation.events("finished")) == 1
    # What is closed and on disk is not opened again. One that is asked to end closes the round first.
    closed = phase == "checkpoint" or (phase, action) == ("aggregation", "restart")
    opened = [event.round_number for event in federation.events("round-opened")]
    assert opened.count(STRUCK) == (2 if began_anew and not closed else 1)
    lost, connected = federation.events("broker-lost"), federation.events("broker-connected")
    if party == "broker" or (party, action) == ("coordinator", "suspend"):
        assert lost
        assert len(connected) == 1 + len(lost)
    if party == "agent":
        changes = [
            (event.at, event.name)
            for name in ("agent-online", "agent-offline")
            for event in federation.events(name)
            if event.agent_id == AGENT
        ]
        names = [name for _, name in sorted(changes)]
        assert names[0] == names[-1] == "agent-online"
        assert "agent-offline" in names
