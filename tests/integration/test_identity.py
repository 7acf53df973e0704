"""Two coordinators on one federation: the second refuses to start, and the first does not notice."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.commands.conversation import EXIT_ABORTED
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


def test_second_coordinator_refuses_to_start_and_the_first_goes_on(federation: Federation) -> None:
    federation.wait_until_training("room-1", 1)
    second = Process("second", federation.coordinator.command, federation.folder / "second.log")
    second.start("run", str(federation.config), "--run-id", "second-run")
    try:
        assert second.wait() == EXIT_ABORTED
        assert "another coordinator" in second.log()
    finally:
        second.cleanup()
    rounds = federation.finish()
    assert len(rounds) == 12
    assert all(record.attempt == 1 for record in rounds)
