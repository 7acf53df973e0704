"""The report on a terminal says what the page says."""

import io
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from coordinator.cli import app
from coordinator.report.facts import Facts
from coordinator.report.terminal import CURVE_WIDTH, curve, show_report
from coordinator.run_folder import Record
from tests.unit.coordinator.recorded import RUN_ID, closed, happened, run_of
from tests.unit.coordinator.test_report import make_run


def text_of(root: Path, records: list[Record]) -> str:
    console = Console(width=100, file=io.StringIO())
    with console.capture() as captured:
        show_report(Facts.read(make_run(root / "runs", records)), console)
    return captured.get()


def test_terminal_has_results_devices_digests_and_settings_when_run_is_over(tmp_path: Path) -> None:
    text = text_of(tmp_path, run_of(4, {"a": 1.0, "b": 3.0}))

    assert "accuracy 90.00%, 4 rounds in 16.0 s, 2 devices" in text
    assert "60.00% ▁▃▆█ 90.00%" in text
    assert "study: 25 rounds" in text
    assert "straggler b" in text
    assert f"{4:064x}" in text
    assert "training.seed" in text
    assert "/etc/" not in text


def test_terminal_says_so_when_no_round_has_closed(tmp_path: Path) -> None:
    text = text_of(tmp_path, [happened("started")])

    assert "0 rounds" in text
    assert "No message was refused." in text


def test_terminal_lists_refusals_when_there_were_some(tmp_path: Path) -> None:
    assert "stale-round" in text_of(tmp_path, [closed(1, refused={"a": {"stale-round": 2}})])


@pytest.mark.parametrize(
    ("values", "drawn"),
    [([0.0, 0.5, 1.0], "▁▅█"), ([0.3, 0.3], "▁▁"), ([1.0], "▁")],
    ids=["rising", "level", "one"],
)
def test_curve_goes_from_lowest_to_highest(values: list[float], drawn: str) -> None:
    assert curve(values) == drawn


def test_curve_stays_on_the_line_when_there_are_many_rounds() -> None:
    assert len(curve([i / 1000 for i in range(1000)])) == CURVE_WIDTH


def test_command_prints_and_writes_nothing_when_asked_for_the_terminal(tmp_path: Path) -> None:
    run = make_run(tmp_path, run_of(2, {"a": 1.0}))

    result = CliRunner().invoke(app, ["report", RUN_ID, "--runs", str(tmp_path), "--terminal"])

    assert result.exit_code == 0, result.output
    assert "Reproduce it" in result.stdout
    assert not (run.path / "report.html").exists()
