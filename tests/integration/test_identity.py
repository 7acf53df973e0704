"""Two processes of one agent: the older one gives way."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.proxy import Proxy
from edge_agent.cli import EXIT_TAKEN_OVER
from mosquitto.broker import PrivateBroker
from tests.integration.federation import Federation, Process
from tests.integration.forked_process import ForkedProcess
from tests.integration.phased_federation import AGENT, check_nothing_counted_twice, phased_federation
from transport.timing import USUAL_TIMING

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SETTINGS = """
[training]
local_batches = 60
[rounds]
count = 12
min_agents = 2
min_updates = 2
deadline_s = 60
[data]
dataset = "none"
"""


@pytest.fixture
def federation(mosquitto_program: str, tmp_path: Path) -> Iterator[Federation]:
    """Two agents and a coordinator, started."""
    assert mosquitto_program
    passwords = {user: f"password of {user}" for user in ("coordinator", "room-1", "room-2")}
    with (
        PrivateBroker(tmp_path / "broker", passwords) as broker,
        Federation(tmp_path, broker, 2, SETTINGS) as federation,
    ):
        federation.start()
        yield federation


def another_process(federation: Federation, agent: Process) -> Process:
    """A second process of an agent, with a state folder of its own as on another device."""
    room = federation.folder / agent.name
    config = (room / "agent.toml").read_text().replace('state_folder = "state"', 'state_folder = "state-2"')
    (room / "second.toml").write_text(config)
    command = [*agent.command[:-1], str(room / "second.toml")]
    return type(agent)("newer", command, federation.folder / "newer.log")


def test_older_of_two_processes_of_an_agent_ends_for_good_and_the_newer_one_trains(federation: Federation) -> None:
    older = federation.agents["room-1"]
    federation.wait_until_training("room-1", 1)
    newer = another_process(federation, older)
    newer.start()
    try:
        assert older.wait() == EXIT_TAKEN_OVER
        assert "another process connected as agent room-1: this one ends" in older.log()
        taken_over_in = len(federation.rounds()) + 1
        rounds = federation.finish()
        assert newer.exit_code is None
        assert "training" in newer.log()
        assert newer.log().count("connected to the broker") <= 2
    finally:
        newer.cleanup()
    assert len(rounds) == 12
    assert taken_over_in < 12
    after = [record for record in rounds if record.round_number > taken_over_in]
    assert all(record.accepted == ("room-1", "room-2") for record in after)


def test_process_that_was_taken_for_dead_ends_when_it_wakes_up_and_another_one_has_its_place(
    mosquitto_program: str, tmp_path: Path
) -> None:
    assert mosquitto_program
    with phased_federation(tmp_path) as federation:
        federation.party(AGENT).timing = USUAL_TIMING
        older = federation.start_until("training")
        newer = another_process(federation, older)
        assert isinstance(newer, ForkedProcess)
        newer.timing = USUAL_TIMING
        newer.start()
        try:
            federation.wait_until(lambda: "round_number=2: training" in newer.log(), "the newer one to train")
            older.go_on()
            assert older.wait() == EXIT_TAKEN_OVER
            check_nothing_counted_twice(federation, federation.finish())
            assert newer.exit_code is None
            assert newer.log().count("connected to the broker") <= 2
        finally:
            newer.cleanup()


def test_restarted_agent_stays_when_a_connection_of_its_killed_predecessor_reaches_the_broker_after_its_own(
    federation: Federation,
) -> None:
    agent, room = federation.agents["room-1"], federation.folder / "room-1"
    federation.wait_until_training("room-1", 1)
    agent.kill()
    with Proxy(federation.broker.port) as slow_line:
        config = (room / "agent.toml").read_text()
        detour = config.replace(f"port = {federation.broker.port}", f"port = {slow_line.port}")
        assert detour != config
        (room / "detour.toml").write_text(detour)
        predecessor = Process(
            "predecessor", [*agent.command[:-1], str(room / "detour.toml")], federation.folder / "predecessor.log"
        )
        slow_line.hold()
        predecessor.start()
        try:
            federation.wait_until(lambda: slow_line.bytes_held > 0, "the predecessor's CONNECT to be on its way")
        finally:
            predecessor.kill()
        agent.start()
        federation.wait_until(lambda: "training" in agent.log(), "the restarted agent to be there")

        slow_line.release()

        federation.wait_until(lambda: "not connected" in agent.log(), "the late connection to throw the agent out")
        rounds = federation.finish()
    assert agent.exit_code is None, agent.log()
    assert agent.log().count("connected to the broker") >= 2
    assert len(rounds) == 12
    assert all(record.accepted == ("room-1", "room-2") for record in rounds)
