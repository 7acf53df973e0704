"""Two agents and a coordinator that start in no time, one of which can be made to stop itself in a phase of a round.

What becomes of a fault is held against the undisturbed run, which is simulated, byte for byte.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from coordinator import checkpoints
from coordinator.run_folder import RunFolder
from mosquitto.broker import PrivateBroker
from schemas.records import RoundRecord
from schemas.weights import digest
from tests.integration.federation import RUN_ID, Federation, small_digits
from tests.integration.forked_process import ForkedProcess
from tests.integration.halting_party import AGENT_POINTS, COORDINATOR_POINTS, Halt
from tests.integration.undisturbed import models_when_undisturbed

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


def undisturbed_models(runs: Path) -> list[str]:
    """The digests of the global model after each round when nothing happens."""
    return models_when_undisturbed(runs, SETTINGS, AGENTS)


@contextlib.contextmanager
def phased_federation(folder: Path) -> Iterator[PhasedFederation]:
    """One on a broker that may be broken, not started."""
    users = ["coordinator", *(f"room-{i}" for i in range(1, AGENTS + 1))]
    with (
        PrivateBroker(folder / "broker", {user: f"password of {user}" for user in users}) as broker,
        PhasedFederation(folder, broker) as federation,
    ):
        yield federation


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
