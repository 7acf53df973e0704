"""`coordinator metrics push`, and a run that ships its metrics while it goes on: into a real InfluxDB."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from coordinator.cli import app
from coordinator.influx import InfluxSettings
from coordinator.run_folder import RunFolder
from mosquitto.broker import PrivateBroker
from tests.integration.conftest import Influx
from tests.integration.federation import RUN_ID, Federation
from tests.integration.read_back import expected_points, stored_points
from tests.unit.coordinator.recorded import RUN_ID as RECORDED_RUN_ID
from tests.unit.coordinator.recorded import run_of


def influx_section(settings: InfluxSettings) -> str:
    return f'[influx]\nurl = "{settings.url}"\nbucket = "{settings.bucket}"\ntoken_file = "{settings.token_file}"\n'


def coordinator(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_push_ships_a_recorded_run_once(influx: Influx, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "runs", RECORDED_RUN_ID, {})
    with run.lock():
        for record in run_of(3, {"a": 1.0, "b": 2.0}):
            run.append(record)
    config = tmp_path / "run.toml"
    config.write_text(influx_section(influx.settings))
    command = ("metrics", "push", "--runs", tmp_path / "runs", "--config", config)

    first = json.loads(coordinator(*command, "--json").stdout)

    stored = stored_points(influx.servers, influx.database)
    assert stored == expected_points(run)
    assert (first["points_shipped"], first["records_waiting"], first["error"]) == (len(stored), 0, "")
    assert f"has everything of {RECORDED_RUN_ID} already" in coordinator(*command).stdout
    again = json.loads(coordinator(*command, "--everything", "--json").stdout)
    assert again["points_shipped"] == len(stored)
    assert stored_points(influx.servers, influx.database) == stored


def test_push_that_is_refused_says_what_to_do(influx: Influx, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "runs", RECORDED_RUN_ID, {})
    with run.lock():
        for record in run_of(1, {"a": 1.0}):
            run.append(record)
    config = tmp_path / "run.toml"
    config.write_text(influx_section(influx.settings.model_copy(update={"token_file": tmp_path / "wrong"})))

    result = coordinator("metrics", "push", "--runs", tmp_path / "runs", "--config", config)

    assert result.exit_code == 1
    assert "answered 401" in result.stderr
    assert "Check influx.token_file" in result.stderr


@pytest.fixture
def federation(mosquitto_program: str, influx: Influx, tmp_path: Path) -> Iterator[Federation]:
    """Two agents and a coordinator that ships its metrics, not started."""
    assert mosquitto_program
    passwords = {user: f"password of {user}" for user in ("coordinator", "room-1", "room-2")}
    settings = (
        "[training]\nlocal_batches = 1\n[rounds]\ncount = 3\nmin_agents = 2\nmin_updates = 2\n"
        f'[data]\ndataset = "none"\n{influx_section(influx.settings)}'
    )
    with PrivateBroker(tmp_path / "broker", passwords) as broker, Federation(tmp_path, broker, 2, settings) as found:
        yield found


@pytest.mark.timeout(180)
def test_run_has_shipped_everything_when_it_ends(influx: Influx, federation: Federation) -> None:
    federation.start()

    federation.finish()

    stored = stored_points(influx.servers, influx.database)
    assert stored == expected_points(RunFolder.open(federation.runs, RUN_ID))
    assert f"metrics: {len(stored)} points shipped to {influx.settings.url}" in federation.coordinator.log()
