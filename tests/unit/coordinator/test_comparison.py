"""Runs side by side: what differs, what came of each, and how long the models are the same."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from coordinator.cli import app
from coordinator.report import comparison
from coordinator.report.comparison import compare, page, result_rows, same_models_sentence, write_comparison
from coordinator.run_folder import Record, RunFolder
from tests.unit.coordinator.recorded import closed, reported
from tests.unit.coordinator.test_report import CONFIG, Page

NAMES = ("first", "second")


def make(root: Path, run_id: str, accuracies: list[float], *, shift: int = 0, **changes: Any) -> RunFolder:
    """A run of two devices with these accuracies; `shift` makes other models from the third round on."""
    run = RunFolder.create(root, run_id, CONFIG | {"run_id": run_id} | changes)
    with run.lock():
        for number, accuracy in enumerate(accuracies, 1):
            records: list[Record] = [
                *(reported(number, agent_id).model_copy(update={"run_id": run_id}) for agent_id in ("a", "b")),
                closed(
                    number,
                    run_id=run_id,
                    accuracy=accuracy,
                    model_sha256=f"{number + (shift if number > 2 else 0):064x}",
                ),
            ]
            for record in records:
                run.append(record)
    return run


@pytest.fixture
def runs(tmp_path: Path) -> list[RunFolder]:
    """Two runs that differ in their seed, from the third round on."""
    other = CONFIG["training"] | {"seed": 2}
    return [
        make(tmp_path, "first", [0.5, 0.7, 0.8]),
        make(tmp_path, "second", [0.5, 0.65, 0.7, 0.96], shift=100, training=other),
    ]


def test_only_what_differs_is_listed_when_runs_are_compared(runs: list[RunFolder]) -> None:
    assert compare(runs).different == {"training.seed": [1, 2]}


def test_results_stand_side_by_side_when_runs_are_compared(runs: list[RunFolder]) -> None:
    rows = result_rows(compare(runs))

    assert rows["rounds"] == ["3", "4"]
    assert rows["test accuracy"] == ["80.00%", "96.00%"]
    assert rows["rounds to its target"] == ["3", "4"]
    assert rows["to 80%"] == ["3 rounds, 12.0 s", "4 rounds, 16.0 s"]
    assert rows["to 95%"] == ["-", "4 rounds, 16.0 s"]
    assert rows["models as in the first"] == ["-", "rounds 1 to 2"]


def test_models_are_said_to_be_the_same_when_they_are(tmp_path: Path) -> None:
    found = compare([make(tmp_path, "first", [0.5, 0.6]), make(tmp_path, "second", [0.5, 0.6, 0.7])])

    assert found.same_until == 2
    assert "in all 2 rounds that the runs have in common" in same_models_sentence(found)


def test_models_are_said_to_differ_when_they_do(runs: list[RunFolder]) -> None:
    assert "until round 2, and differ after it" in same_models_sentence(compare(runs))


def test_page_shows_names_settings_and_digests_when_written(runs: list[RunFolder]) -> None:
    found = compare(runs)
    text = Page(page(found, [])).text

    assert "setting first second training.seed 1 2" in text
    assert str(found.columns[0].digests.models_sha256) in text
    assert "/etc/" not in text


def test_page_is_one_file_with_its_pictures_when_written(runs: list[RunFolder], tmp_path: Path) -> None:
    written = write_comparison(compare(runs), tmp_path / "out" / "compare.html")

    found = Page(written.html.read_text())
    assert len(found.references) == 8  # four pictures, light and dark
    assert all(reference.startswith("data:image/png;base64,") for reference in found.references)
    assert [path.name for path in written.plots] == ["rounds.png", "seconds.png", "megabytes.png", "parts.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written.plots)


def test_comparison_has_no_pictures_when_no_round_has_closed(tmp_path: Path) -> None:
    found = compare([make(tmp_path, name, []) for name in NAMES])

    assert comparison.pictures(found) == []
    assert Page(page(found, [])).references == []


def test_command_prints_both_tables_when_asked(runs: list[RunFolder]) -> None:
    result = CliRunner().invoke(app, ["compare", *NAMES, "--runs", str(runs[0].path.parent)])

    assert result.exit_code == 0, result.output
    assert "training.seed" in result.stdout
    assert "until round 2" in result.stdout


def test_command_prints_one_document_when_asked_for_json(runs: list[RunFolder]) -> None:
    result = CliRunner().invoke(app, ["compare", *NAMES, "--runs", str(runs[0].path.parent), "--json"])

    found = json.loads(result.stdout)
    assert [run["final_accuracy"] for run in found["runs"]] == [0.8, 0.96]
    assert (found["different"], found["same_models_until_round"]) == ({"training.seed": [1, 2]}, 2)


def test_command_refuses_a_run_beside_itself(runs: list[RunFolder]) -> None:
    result = CliRunner().invoke(app, ["compare", "first", "first", "--runs", str(runs[0].path.parent)])

    assert result.exit_code == 1
    assert "name at least two different runs" in result.stderr
