"""An agent written from docs/topics.md alone takes part in real runs beside two of ours, over a real broker."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from coordinator.config import RunConfig
from coordinator.run import start
from coordinator.run_folder import RunFolder
from learning.datasets import load_dataset
from learning.folders import write_folder
from learning.partition import partition
from mosquitto.broker import PrivateBroker
from schemas.records import DeviceRecord, RoundRecord, RunEvent

OURS = ("room-1", "room-2")
STRANGER = "stranger"
ROUNDS = 3
EXAMPLES = 50
CLIENT = Path(__file__).with_name("independent_client.py")
END_LIMIT_S = 20

pytestmark = pytest.mark.timeout(180)


@dataclass(frozen=True)
class Outcome:
    """What a run left behind, and what the stranger said at its end."""

    rounds: list[RoundRecord]
    devices: list[DeviceRecord]
    offline: list[RunEvent]
    seen: dict[str, object]


def broker_section(broker: PrivateBroker, folder: Path, user: str) -> dict[str, object]:
    secret = folder / f"{user}.password"
    secret.touch(mode=0o600)
    secret.write_text(broker.passwords[user] + "\n")
    return {"port": broker.port, "username": user, "password_file": str(secret)}


def agent_config(broker: PrivateBroker, folder: Path, name: str) -> Path:
    keys = [f"{key} = {json.dumps(value)}" for key, value in broker_section(broker, folder, name).items()]
    path = folder / name / "agent.toml"
    path.write_text(
        "\n".join([f'agent_id = "{name}"', 'data_folder = "data"', 'state_folder = "state"', "[broker]", *keys])
    )
    return path


@contextmanager
def running(commands: dict[str, list[str]], folder: Path) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Processes that are asked to end, and made to if need be."""
    processes: dict[str, subprocess.Popen[str]] = {}
    try:
        for name, command in commands.items():
            with (folder / f"{name}.log").open("w") as log:
                processes[name] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        yield processes
    finally:
        for process in processes.values():
            if process.poll() is None:
                process.kill()
            process.communicate()


def run_beside_ours(broker: PrivateBroker, folder: Path, chunk_kib: int, *options: str) -> Outcome:
    """Three rounds of our CNN with two of our agents and the stranger; every update is waited for."""
    train = load_dataset("digits").train
    commands = {}
    for name, indices in zip(OURS, partition(train.labels, len(OURS), "iid", 1), strict=True):
        write_folder(folder / name / "data", train.take(indices))
        config_file = agent_config(broker, folder, name)
        commands[name] = [sys.executable, "-m", "edge_agent.cli", "run", str(config_file)]
    secret = str(broker_section(broker, folder, STRANGER)["password_file"])
    fixed = ["--port", str(broker.port), "--agent-id", STRANGER, "--password-file", secret, "--examples", str(EXAMPLES)]
    commands[STRANGER] = [sys.executable, str(CLIENT), *fixed, *options]
    config = RunConfig.model_validate(
        {
            "runs_folder": folder / "runs",
            "broker": broker_section(broker, folder, "coordinator"),
            "training": {"local_batches": 2},
            "rounds": {
                "count": ROUNDS,
                "min_agents": len(commands),
                "min_updates": len(commands),
                "deadline_s": 60,
                "patience_s": 60,
                "chunk_kib": chunk_kib,
            },
            "data": {"dataset": "none"},
        }
    )
    with running(commands, folder) as processes:
        result = start(config)
        processes[STRANGER].terminate()
        printed, _ = processes[STRANGER].communicate(timeout=END_LIMIT_S)
    said = (folder / f"{STRANGER}.log").read_text()
    assert (result.outcome, processes[STRANGER].returncode) == ("finished", 0), (result.detail, printed, said)
    records = RunFolder.open(folder / "runs", result.run_id).records()
    return Outcome(
        [record for record in records if isinstance(record, RoundRecord)],
        [record for record in records if isinstance(record, DeviceRecord)],
        [record for record in records if isinstance(record, RunEvent) and record.name == "agent-offline"],
        json.loads(printed.splitlines()[-1]),
    )


@pytest.fixture
def small_broker(mosquitto_program: str, tmp_path: Path) -> Iterator[PrivateBroker]:
    """A broker whose users are ours and the stranger."""
    assert mosquitto_program
    users = ("coordinator", STRANGER, *OURS)
    with PrivateBroker(tmp_path / "broker", {user: f"password of {user}" for user in users}) as broker:
        yield broker


def check_took_part_in_every_round(outcome: Outcome) -> None:
    assert [record.accepted for record in outcome.rounds] == [(*OURS, STRANGER)] * ROUNDS
    assert [record.refused for record in outcome.rounds] == [{}] * ROUNDS
    reports = {d.round_number: d.report for d in outcome.devices if d.agent_id == STRANGER}
    assert list(reports) == [1, 2, 3]
    assert {report.examples for report in reports.values()} == {EXAMPLES}
    seen = outcome.seen
    assert (seen["accepted"], seen["rounds_counted"], seen["finished"]) == (ROUNDS, ROUNDS, 1)
    assert (seen["refusals"], seen.get("unreadable")) == ([], None)


def test_stranger_shares_no_code_with_us() -> None:
    found: set[str] = set()
    for node in ast.walk(ast.parse(CLIENT.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).partition(".")[0])

    assert found - sys.stdlib_module_names == {"numpy", "paho"}


def test_stranger_is_accepted_in_every_round_when_the_first_model_was_lost_on_its_way(
    small_broker: PrivateBroker, tmp_path: Path
) -> None:
    outcome = run_beside_ours(small_broker, tmp_path, 8192, "--ignore-first-model")

    check_took_part_in_every_round(outcome)
    assert outcome.seen["broadcasts"] == ROUNDS
    assert (outcome.seen["asked_for_model"], outcome.seen["models_sent_to_us_alone"]) == (1, 1)


def test_stranger_of_an_older_minor_is_accepted_in_every_round_when_blobs_travel_in_chunks_and_its_line_breaks(
    small_broker: PrivateBroker, tmp_path: Path
) -> None:
    outcome = run_beside_ours(small_broker, tmp_path, 16, "--minor", "0", "--hang-up-in-round", "2")

    check_took_part_in_every_round(outcome)
    assert outcome.seen["hung_up"] == 1
    assert [(event.round_number, event.agent_id) for event in outcome.offline] == [(2, STRANGER)]
    assert "broadcasts" not in outcome.seen
    assert outcome.seen["chunks"] == ROUNDS * 12
    assert sum(record.ignored_fields for record in outcome.rounds) == 0
