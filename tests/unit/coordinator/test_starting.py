"""What `coordinator start` says where it cannot work; that it works is shown on the test bed, with a real systemd."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator.cli import app
from coordinator.commands import starting
from coordinator.run_folder import RunFolder

RUN_FILE = '[data]\ndataset = "none"\n'


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments])
    assert result.exit_code == 1, result.output
    return " ".join(result.output.split())


@pytest.fixture
def _root_with_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the service manager had been looked at already."""
    monkeypatch.setattr(starting, "_check_service_manager", lambda: None)


def test_start_asks_for_root_when_it_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert "sudo coordinator" in invoke("start", str(tmp_path / "run.toml"))


def test_start_names_the_alternative_when_systemd_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert "use `coordinator run`" in invoke("start", str(tmp_path / "run.toml"))


@pytest.mark.usefixtures("_root_with_systemd")
def test_start_says_that_the_file_is_missing_when_it_is(tmp_path: Path) -> None:
    assert "there is no such file" in invoke("start", str(tmp_path / "missing.toml"))


@pytest.mark.usefixtures("_root_with_systemd")
def test_start_is_refused_when_another_run_is_going_on(tmp_path: Path) -> None:
    run_file = tmp_path / "run.toml"
    run_file.write_text(RUN_FILE)
    with RunFolder.create(tmp_path / "runs", "first", {}).lock():
        said = invoke("start", str(run_file), "--runs", str(tmp_path / "runs"))

    assert "run first is running" in said
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["first"]


@pytest.mark.usefixtures("_root_with_systemd")
def test_going_on_is_refused_when_the_run_is_unknown(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "runs", "first", {})

    assert "there is no run 'second'" in invoke("start", "second", "--runs", str(tmp_path / "runs"))
