"""What the list of runs shows of one run."""

from pathlib import Path

import pytest

from coordinator.run_folder import Record, RunFolder
from coordinator.run_summary import summarise
from tests.sample_records import STARTED_AT, device_record, round_record, run_event


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, "run-1", {})


def write(run: RunFolder, *records: Record) -> None:
    with run.lock():
        for record in records:
            run.append(record)


def test_summary_is_empty_when_nothing_happened(run: RunFolder) -> None:
    summary = summarise(run)

    assert (summary.state, summary.rounds_closed, summary.accuracy, summary.started_at) == ("stopped", 0, None, None)


def test_summary_tells_rounds_and_accuracy_when_last_round_was_not_evaluated(run: RunFolder) -> None:
    write(run, run_event(), round_record(1, accuracy=0.5), round_record(2, accuracy=None, loss=None), device_record(2))

    summary = summarise(run)

    assert (summary.rounds_closed, summary.accuracy) == (2, 0.5)
    assert (summary.started_at, summary.last_at) == (STARTED_AT, STARTED_AT + 20 + 4.5)


@pytest.mark.parametrize(
    ("events", "state"),
    [
        (["started"], "stopped"),
        (["started", "stopped"], "stopped"),
        (["started", "finished"], "finished"),
        (["started", "aborted", "agent-offline"], "aborted"),
        (["started", "aborted", "resumed"], "stopped"),
    ],
)
def test_state_follows_the_last_turn_when_nobody_runs_it(run: RunFolder, events: list[str], state: str) -> None:
    write(run, *(run_event(name, number) for number, name in enumerate(events)))

    assert summarise(run).state == state


def test_state_is_running_when_lock_is_held(run: RunFolder) -> None:
    with run.lock():
        assert summarise(run).state == "running"
