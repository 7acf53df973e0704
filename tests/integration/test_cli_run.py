"""`coordinator run` and `resume` as an operator uses them: real processes, a broker that may be missing, Ctrl-C."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mosquitto.broker import PrivateBroker, free_port
from tests.integration.federation import RUN_ID, Federation, Process

pytestmark = pytest.mark.timeout(180)

EXIT_STOPPED = 4
SETTINGS = """
[training]
local_batches = 1
[rounds]
count = 100
min_agents = 2
min_updates = 2
deadline_s = 100
[data]
dataset = "none"
"""


@pytest.fixture
def federation(mosquitto_program: str, tmp_path: Path) -> Iterator[Federation]:
    """Two agents and a coordinator, not started."""
    assert mosquitto_program
    passwords = {user: f"password of {user}" for user in ("coordinator", "room-1", "room-2")}
    with PrivateBroker(tmp_path / "broker", passwords) as broker, Federation(tmp_path, broker, 2, SETTINGS) as found:
        yield found


def coordinator_json(*arguments: str) -> Any:
    """What a command prints with --json: all of its stdout."""
    command = [sys.executable, "-m", "coordinator.cli", *arguments, "--json"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, timeout=150, check=True).stdout)


def test_run_that_is_interrupted_says_how_to_resume_and_goes_on_from_there(federation: Federation) -> None:
    federation.start()
    federation.wait_until(lambda: "round   2" in federation.coordinator.log(), "two rounds")

    federation.coordinator.signal(signal.SIGINT)

    assert federation.coordinator.wait() == EXIT_STOPPED
    assert f"resume with  coordinator resume {RUN_ID} --runs {federation.runs}" in federation.coordinator.log()
    closed = [record.model_sha256 for record in federation.rounds()]
    (listed,) = coordinator_json("runs", "--runs", str(federation.runs))["runs"]
    assert (listed["state"], listed["rounds_closed"]) == ("stopped", len(closed))

    result = coordinator_json("resume", RUN_ID, "--runs", str(federation.runs))

    assert (result["outcome"], result["rounds"]) == ("finished", 100)
    rounds = federation.rounds()
    assert [record.model_sha256 for record in rounds][: len(closed)] == closed
    assert result["model_sha256"] == rounds[-1].model_sha256
    assert [
        device["agent_id"] for device in coordinator_json("devices", "--runs", str(federation.runs))["devices"]
    ] == [
        "room-1",
        "room-2",
    ]


def test_run_takes_options_over_the_file_and_reports_in_json(federation: Federation) -> None:
    for agent in federation.agents.values():
        agent.start()

    training = ("--seed", "7", "--strategy", "fedavgm", "--option", "server_momentum=0.25")

    result = coordinator_json("run", str(federation.config), "--rounds", "2", "--run-id", "short", *training)

    assert (result["run_id"], result["outcome"], result["rounds"]) == ("short", "finished", 2)
    saved = json.loads((federation.runs / "short" / "config.json").read_text())
    assert (saved["rounds"]["count"], saved["training"]["seed"], saved["rounds"]["min_agents"]) == (2, 7, 2)
    assert (saved["plan"]["strategy"], saved["plan"]["options"]) == ("fedavgm", {"server_momentum": 0.25})


def test_run_without_a_broker_says_so_and_waits_until_it_is_stopped(tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "run.toml"
    config.write_text(f'runs_folder = "runs"\n[broker]\nport = {port}\n[data]\ndataset = "none"')
    command = [sys.executable, "-m", "coordinator.cli", "run", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline(), process.stdout.readline()]
        process.terminate()
        rest = process.stdout.read()

    assert f"cannot connect: nothing listens at 127.0.0.1:{port}; trying again (Ctrl-C stops)" in said[1]
    assert "stopped: resume with  coordinator resume" in rest
    assert process.returncode == EXIT_STOPPED


def test_second_agent_with_the_same_state_folder_is_refused(federation: Federation) -> None:
    first = federation.agents["room-1"]
    first.start()
    federation.wait_until(lambda: "connected to the broker" in first.log(), "the first agent to connect")
    second = Process("second", first.command, federation.folder / "second.log")

    second.start()

    assert second.wait() == 1
    assert f"is in use by another process, pid {first.pid}" in second.log()
    assert first.exit_code is None
