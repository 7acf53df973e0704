"""Kill -9 of each party in the middle of a round: the run finishes, with the weights of an undisturbed run.

The undisturbed run is simulated, so these tests also hold the simulation against real processes, byte for byte. The
run has what a fault could damage: carries, codecs and their residuals. Plain weights in chunks, and every phase of a
round, are in `test_faults_by_phase.py`.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.commands.conversation import EXIT_STOPPED
from edge_agent.spool import Spool
from mosquitto.broker import PrivateBroker
from tests.integration.federation import RUN_ID, Federation
from tests.integration.undisturbed import models_when_undisturbed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]

AGENTS = 3
SETTINGS = f"""
[training]
local_batches = 60
batch_size = 16
strategy = "best"
learning_rate = 0.05
[rounds]
count = 4
min_agents = {AGENTS}
min_updates = {AGENTS}
deadline_s = 100
patience_s = 60
[data]
dataset = "none"
"""


@pytest.fixture
def broker_of_its_own(mosquitto_program: str, tmp_path: Path) -> Iterator[PrivateBroker]:
    """A broker that a test may break."""
    assert mosquitto_program
    users = ["coordinator", *(f"room-{i}" for i in range(1, AGENTS + 1))]
    with PrivateBroker(tmp_path / "broker", {user: f"password of {user}" for user in users}) as broker:
        yield broker


@pytest.fixture
def federation(tmp_path: Path, broker_of_its_own: PrivateBroker) -> Iterator[Federation]:
    """Three agents and a coordinator, not started."""
    with Federation(tmp_path, broker_of_its_own, AGENTS, SETTINGS) as federation:
        yield federation


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The digests of the global model after each round when nothing happens."""
    return models_when_undisturbed(tmp_path_factory.mktemp("undisturbed"), SETTINGS, AGENTS)


def kept_round(federation: Federation, name: str) -> int:
    """The round of the update that an agent has kept; 0 when it has none.

    The agent is writing there meanwhile, and a file that was listed may have been renamed or removed before it is read.
    """
    try:
        pending = Spool(federation.folder / name / "state", name).load()[1]
    except FileNotFoundError:
        return 0
    return pending.round_number if pending else 0


def check_same_as_undisturbed(federation: Federation, undisturbed: list[str]) -> None:
    rounds = federation.finish()
    assert [record.round_number for record in rounds] == [1, 2, 3, 4]
    assert all(len(record.accepted) == AGENTS for record in rounds)
    assert [record.model_sha256 for record in rounds] == undisturbed


def test_run_over_the_broker_has_the_same_weights_as_in_simulation(
    federation: Federation, undisturbed: list[str]
) -> None:
    federation.start()
    check_same_as_undisturbed(federation, undisturbed)


def test_run_finishes_with_the_same_weights_when_an_agent_is_killed_in_training(
    federation: Federation, undisturbed: list[str]
) -> None:
    federation.start()
    federation.wait_until_training("room-2", 2)
    federation.agents["room-2"].kill()
    federation.agents["room-2"].start()
    check_same_as_undisturbed(federation, undisturbed)
    assert federation.events("agent-offline")


def test_run_finishes_with_the_same_weights_when_the_coordinator_is_killed_in_a_round(
    federation: Federation, undisturbed: list[str]
) -> None:
    federation.start()
    federation.wait_until_training("room-1", 2)
    federation.coordinator.kill()
    federation.resume()
    check_same_as_undisturbed(federation, undisturbed)
    assert federation.events("resumed")


def test_updates_are_sent_again_without_training_when_the_coordinator_is_killed_after_they_arrived(
    federation: Federation, undisturbed: list[str]
) -> None:
    federation.start()
    federation.wait_until_training("room-1", 2)
    stopped = federation.agents["room-3"]
    others = ("room-1", "room-2")
    stopped.signal(19)  # SIGSTOP: the round stays open while the others deliver
    try:
        federation.wait_until(lambda: all(kept_round(federation, name) == 2 for name in others), "two updates kept")
        federation.coordinator.kill()
    finally:
        stopped.signal(18)
    federation.resume()
    check_same_as_undisturbed(federation, undisturbed)
    for name in others:
        assert federation.agents[name].log().count("round_number=2: training") == 1


@pytest.mark.parametrize("database_survives", [True, False])
def test_run_finishes_with_the_same_weights_when_the_broker_is_killed_in_a_round(
    federation: Federation, undisturbed: list[str], database_survives: bool
) -> None:
    federation.start()
    federation.wait_until_training("room-1", 2)
    federation.broker.kill()
    if not database_survives:
        for path in (federation.broker.folder / "data").glob("*.db"):
            path.unlink()
    federation.broker.start()
    check_same_as_undisturbed(federation, undisturbed)


def differences_of_a_replay(federation: Federation) -> list[str]:
    """What `simulate --replay` finds different from the run that just took place."""
    options = ("--replay", RUN_ID, "--rooms", str(federation.folder), "--runs", str(federation.runs), "--json")
    command = [*federation.coordinator.command, "simulate", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.stdout, done.stderr
    differences: list[str] = json.loads(done.stdout)["differences"]
    return differences


def test_agent_takes_part_from_the_next_round_when_it_joins_in_mid_run_and_a_replay_gives_the_same_bytes(
    federation: Federation,
) -> None:
    text = federation.config.read_text().replace(f"min_agents = {AGENTS}", "min_agents = 2")
    text = text.replace(f"min_updates = {AGENTS}", "min_updates = 2").replace("count = 4", "count = 1000")
    federation.config.write_text(text)
    federation.agents["room-1"].start()
    federation.agents["room-2"].start()
    federation.coordinator.start("run", str(federation.config))
    federation.wait_until_training("room-1", 1)
    federation.agents["room-3"].start()
    federation.wait_until(
        lambda: bool(federation.rounds()) and "room-3" in federation.rounds()[-1].accepted, "the late agent to count"
    )
    assert federation.coordinator.terminate() == EXIT_STOPPED
    rounds = federation.rounds()
    assert rounds[0].accepted == ("room-1", "room-2")
    assert rounds[-1].accepted == ("room-1", "room-2", "room-3")
    assert all(record.accepted == record.selected for record in rounds)
    assert differences_of_a_replay(federation) == []


def test_agent_ends_cleanly_when_it_is_asked_to(federation: Federation) -> None:
    federation.start()
    federation.wait_until_training("room-1", 1)
    assert federation.agents["room-1"].terminate() == 0
    federation.wait_until(lambda: bool(federation.events("agent-offline")), "the coordinator to notice")
    federation.agents["room-1"].start()
    assert len(federation.finish()) == 4
