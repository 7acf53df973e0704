"""Two processes of one agent: the older one gives way."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.cli import EXIT_TAKEN_OVER
from mosquitto.broker import PrivateBroker
from tests.integration.federation import Federation, Process

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


def test_older_of_two_processes_of_an_agent_ends_for_good_and_the_newer_one_trains(federation: Federation) -> None:
    older, room = federation.agents["room-1"], federation.folder / "room-1"
    federation.wait_until_training("room-1", 1)
    config = (room / "agent.toml").read_text().replace('state_folder = "state"', 'state_folder = "state-2"')
    (room / "second.toml").write_text(config)
    newer = Process("newer", [*older.command[:-1], str(room / "second.toml")], federation.folder / "newer.log")
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
