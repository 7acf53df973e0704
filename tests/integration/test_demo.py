"""The demo as people and scripts start it: real processes from one command, one document, nothing left behind."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from coordinator.run_folder import RunFolder
from schemas.messages import AgentReport
from schemas.records import DeviceRecord

pytestmark = [pytest.mark.timeout(480), pytest.mark.usefixtures("mosquitto_program")]

EXIT_STOPPED = 4
MOST_AGENT_BYTES = 400_000_000
"""What an agent with the CNN may hold in memory."""

SMALL = ("--model", "lstm", "--devices", "2", "--local-batches", "2")
"""The synthetic sequences need neither a download nor a copy of MNIST."""

FIELDS = {
    "dataset", "partition", "strategy", "codec", "local_batches", "batch_size", "rounds", "final_accuracy",
    "accuracy_by_round", "rounds_to_target", "target_accuracy", "wall_s", "train_s_per_device",
    "packet_bytes_per_device", "refused_updates", "model_sha256", "run_dir",
}  # fmt: skip
"""What scripts rely on."""


def demo(runs: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "coordinator.cli", "demo", "--runs", str(runs), *SMALL, *options]


def test_demo_ends_with_one_document_and_a_report(tmp_path: Path) -> None:
    done = subprocess.run(demo(tmp_path, "--rounds", "2", "--json"), capture_output=True, timeout=200, check=False)

    assert done.returncode == 0, done.stderr.decode()
    result = json.loads(done.stdout)
    assert result.keys() >= FIELDS
    assert (result["dataset"], result["outcome"], result["rounds"]) == ("sequences", "finished", 2)
    assert len(result["accuracy_by_round"]) == 2
    assert result["final_accuracy"] == result["accuracy_by_round"][-1]
    assert (result["rounds_to_target"], result["refused_updates"]) == (None, 0)
    # Each device sent two updates of the LSTM's 641,032 floats and received as many models.
    assert all(5_000_000 < count < 6_500_000 for count in result["packet_bytes_per_device"].values())
    assert (Path(result["run_dir"]) / "record.jsonl").is_file()
    assert Path(result["report"]).read_text().startswith("<!doctype html>")


@pytest.mark.slow
def test_demo_ends_at_the_round_that_reaches_the_target(tmp_path: Path) -> None:
    options = ("--rounds", "5", "--target-accuracy", "0.05", "--json")
    done = subprocess.run(demo(tmp_path, *options), capture_output=True, timeout=200, check=False)

    result = json.loads(done.stdout)
    assert (result["rounds"], result["rounds_to_target"], result["target_accuracy"]) == (1, 1, 0.05)


def test_demo_that_is_stopped_takes_its_processes_with_it(tmp_path: Path) -> None:
    with subprocess.Popen(demo(tmp_path, "--rounds", "1000"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = next(line for line in process.stdout if line.startswith("round   1"))
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        rest = process.stdout.read()

    assert process.returncode == EXIT_STOPPED
    assert "2/2 updates" in said
    assert "the demo's broker has ended with it" in rest
    assert len(family) == 3  # two agents and a broker
    assert not any(child.is_running() for child in family)


STUDY = [
    # E, partition, accuracy, rounds and bytes per device of the reference study
    ("digit-pairs", 10, 0.85, 25, 10_000_000),
    ("iid", 40, 0.95, 6, None),
]


@pytest.mark.slow
@pytest.mark.usefixtures("mnist")
@pytest.mark.parametrize(("scheme", "local_batches", "target", "rounds", "bytes_per_device"), STUDY)
def test_demo_needs_no_more_rounds_bytes_and_memory_than_the_study(
    tmp_path: Path, scheme: str, local_batches: int, target: float, rounds: int, bytes_per_device: int | None
) -> None:
    command = [sys.executable, "-m", "coordinator.cli", "demo", "--runs", str(tmp_path), "--json"]
    options = ["--partition", scheme, "--local-batches", str(local_batches), "--target-accuracy", str(target)]

    done = subprocess.run([*command, *options], capture_output=True, timeout=450, check=False)

    assert done.returncode == 0, done.stderr.decode()
    result = json.loads(done.stdout)
    assert (result["dataset"], result["model"], result["refused_updates"]) == ("mnist", "cnn", 0)
    assert result["rounds_to_target"] <= rounds
    assert result["final_accuracy"] >= target
    if bytes_per_device is not None:
        assert sum(result["packet_bytes_per_device"].values()) <= bytes_per_device
    assert max(report.peak_rss_bytes for report in reports_of(Path(result["run_dir"]))) <= MOST_AGENT_BYTES


def reports_of(run: Path) -> list[AgentReport]:
    records = RunFolder.open(run.parent, run.name).records(("device",))
    return [record.report for record in records if isinstance(record, DeviceRecord)]


@pytest.mark.slow
def test_demo_names_the_agent_that_failed(tmp_path: Path) -> None:
    with subprocess.Popen(
        demo(tmp_path, "--rounds", "1000"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        next(line for line in process.stdout if line.startswith("round   1"))
        agents = [c for c in psutil.Process(process.pid).children() if "edge_agent.cli" in " ".join(c.cmdline())]
        agents[0].kill()
        process.stdout.read()
        complaint = process.stderr.read()

    assert process.returncode == 1
    assert complaint.startswith("coordinator: agent room-")
    assert "failed; the end of" in complaint
