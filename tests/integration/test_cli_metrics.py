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
from tests.integration.influx_servers import READ_TOKEN, WRITER, VictoriaMetrics, free_port
from tests.integration.read_back import expected_points, stored_points
from tests.secret_files import write_secret
from tests.unit.coordinator.recorded import RUN_ID as RECORDED_RUN_ID
from tests.unit.coordinator.recorded import run_of


def influx_section(settings: InfluxSettings) -> str:
    token = f'token_file = "{settings.token_file}"\n' if settings.token_file else ""
    return f'[influx]\nurl = "{settings.url}"\nbucket = "{settings.bucket}"\n{token}'


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


def check_of(settings: InfluxSettings, folder: Path) -> tuple[int, dict[str, str], str]:
    """What `metrics check` says of a configuration: exit code, each check's verdict, and all that it found."""
    config = folder / "check.toml"
    config.write_text(influx_section(settings))
    result = coordinator("metrics", "check", config, "--json")
    checks = json.loads(result.stdout)["checks"]
    verdicts = {check["name"]: "ok" if check["ok"] else "no" for check in checks}
    return result.exit_code, verdicts, " ".join(check["detail"] for check in checks)


def test_check_says_ok_and_stores_nothing_when_all_is_well(influx: Influx, tmp_path: Path) -> None:
    code, verdicts, found = check_of(influx.settings, tmp_path)

    assert (code, verdicts) == (0, dict.fromkeys(("server", "credentials", "bucket", "right to write"), "ok"))
    assert "InfluxDB 1.6.7" in found
    assert influx.servers.query("SHOW MEASUREMENTS", influx.database) == []


@pytest.mark.parametrize(
    ("change", "wrong", "said", "advice"),
    [
        ({"token_file": "wrong"}, "credentials", "answered 401", "Check influx.token_file"),
        ({"token_file": READ_TOKEN}, "right to write", "answered 403", "the right to write to the bucket"),
        ({"bucket": "nowhere"}, "bucket", "answered 404", "Create the bucket 'nowhere'"),
        ({"bucket": "{database}/forever"}, "bucket", "retention policy not found", "Create the retention policy of"),
    ],
    ids=["wrong token", "may only read", "no bucket", "no retention policy"],
)
def test_check_says_what_to_do_when_write_would_be_refused(
    influx: Influx, tmp_path: Path, change: dict[str, str], wrong: str, said: str, advice: str
) -> None:
    values = {key: value.format(database=influx.database) for key, value in change.items()}
    if "token_file" in values:
        values["token_file"] = str(tmp_path / values["token_file"])

    code, verdicts, found = check_of(influx.settings.model_copy(update=values), tmp_path)

    assert code == 1
    assert [name for name, verdict in verdicts.items() if verdict == "no"] == [wrong] == list(verdicts)[-1:]
    assert said in found
    assert advice in found


def test_check_asks_whether_server_runs_when_nothing_answers(influx: Influx, tmp_path: Path) -> None:
    dead = influx.settings.model_copy(update={"url": f"http://127.0.0.1:{free_port()}"})

    code, verdicts, found = check_of(dead, tmp_path)

    assert (code, verdicts) == (1, {"server": "no"})
    assert "Connection refused" in found
    assert "Is it running, and is influx.url its address" in found


def test_check_names_the_command_when_secret_is_open_to_everybody(influx: Influx, tmp_path: Path) -> None:
    assert influx.settings.token_file is not None
    influx.settings.token_file.chmod(0o644)
    config = tmp_path / "run.toml"
    config.write_text(influx_section(influx.settings))

    result = coordinator("metrics", "check", config)

    assert result.exit_code == 1
    assert f"chmod 600 {influx.settings.token_file}" in result.stderr


def test_check_passes_with_user_and_password_when_server_is_1_8(influx: Influx, tmp_path: Path) -> None:
    secret = write_secret(tmp_path / "password", WRITER[1])
    config = tmp_path / "run.toml"
    config.write_text(
        f'[influx]\nurl = "{influx.settings.url}"\nbucket = "{influx.database}/autogen"\n'
        f'user = "{WRITER[0]}"\npassword_file = "{secret}"\n'
    )

    result = coordinator("metrics", "check", config)

    assert result.exit_code == 0, result.stdout
    assert "ok  right to write: accepted" in result.stdout


def test_check_passes_when_server_is_victoria_metrics(victoria_metrics: VictoriaMetrics, tmp_path: Path) -> None:
    code, verdicts, _ = check_of(InfluxSettings(url=victoria_metrics.url, bucket="any"), tmp_path)

    assert (code, set(verdicts.values())) == (0, {"ok"})


def test_check_uses_the_runs_own_configuration_when_given_a_run(influx: Influx, tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "runs", "run-1", {"influx": influx.settings.model_dump(mode="json")})

    result = coordinator("metrics", "check", "run-1", "--runs", tmp_path / "runs")

    assert result.exit_code == 0, result.stderr
    assert "InfluxDB 1.6.7" in result.stdout


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
