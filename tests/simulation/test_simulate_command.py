"""`coordinator simulate` as it is typed: what it is told is what the run is made of."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator.cli import app

SMALL = ("--model", "lstm", "--devices", "2", "--local-batches", "1", "--rounds", "1")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """An empty folder for runs."""
    return tmp_path / "runs"


def test_options_reach_the_plan_of_the_run(runs: Path) -> None:
    numbers = ("--strategy", "fedavgm", "--option", "server_momentum=0.25", "--option", "clip=2")

    done = CliRunner().invoke(app, ["simulate", *SMALL, *numbers, "--runs", str(runs), "--json"])

    assert done.exit_code == 0, done.stderr
    saved = json.loads((Path(json.loads(done.stdout)["run_dir"]) / "config.json").read_text())
    assert saved["plan"]["options"] == {"server_momentum": 0.25, "clip": 2.0}
