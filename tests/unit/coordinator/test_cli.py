"""The commands that look at runs and make files, as people and machines meet them, on folders of made-up runs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner, Result

from coordinator import checkpoints
from coordinator.cli import app
from coordinator.run_folder import Record, RunFolder
from coordinator.summary import summarise_devices, total
from tests.unit.coordinator.recorded import RUN_ID, START, closed, happened, reported, run_of

CONFIG: dict[str, Any] = {
    "training": {"model": "cnn", "local_batches": 10, "batch_size": 16, "strategy": "fedavg", "learning_rate": 0.05},
    "data": {"dataset": "mnist"},
    "rounds": {"count": 3, "target_accuracy": 0.6},
    "environment": {"python": "3.11"},
}
SLOW_B = {"a": 2.0, "b": 6.0, "c": 2.0}


def make_run(root: Path, records: list[Record], run_id: str = RUN_ID) -> RunFolder:
    run = RunFolder.create(root, run_id, CONFIG | {"run_id": run_id})
    with run.lock():
        for record in records:
            run.append(record)
    return run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with one finished run of three rounds, in which device b is slow."""
    make_run(tmp_path / "runs", run_of(3, SLOW_B))
    return tmp_path / "runs"


def coordinator(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def document(*arguments: str | Path) -> Any:
    """The JSON that a command prints: all of stdout, or the test fails."""
    result = coordinator(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def complaint(*arguments: str | Path) -> str:
    """What a command says on stderr when it refuses."""
    result = coordinator(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    return result.stderr


COMMANDS = ["demo", "run", "resume", "runs", "show", "devices", "report", "export", "partition", "simulate"]


@pytest.mark.parametrize("command", [*([name] for name in COMMANDS), ["metrics", "push"]])
def test_help_of_every_command_teaches_with_an_example(command: list[str]) -> None:
    result = coordinator(*command, "--help")

    assert result.exit_code == 0
    assert f"coordinator {' '.join(command)}" in result.stdout.split("Example:")[1]


@pytest.mark.parametrize("command", [[], ["run"], ["resume"], ["demo"]])
def test_help_documents_the_exit_codes(command: list[str]) -> None:
    assert "4 it was stopped and can be resumed" in " ".join(coordinator(*command, "--help").stdout.split())


def test_wrong_option_has_its_own_exit_code() -> None:
    result = coordinator("demo", "--rounds", "0")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "--rounds" in result.stderr


def test_runs_lists_what_each_run_has_come_to(runs: Path) -> None:
    make_run(runs, [happened("started"), closed(1)], "other")

    lines = coordinator("runs", "--runs", runs).stdout.splitlines()

    assert [line.split()[0] for line in lines[:-1]] == ["run", "other", RUN_ID]
    assert lines[-1] == f"a stopped one goes on with  coordinator resume RUN --runs {runs}"
    assert "stopped" in lines[1]
    assert "finished" in lines[2]
    assert lines[2].split()[-2:] == ["3", "80.00%"]


def test_runs_names_the_process_of_a_run_that_goes_on(runs: Path) -> None:
    with RunFolder.open(runs, RUN_ID).lock():
        (run,) = document("runs", "--runs", runs)["runs"]
        shown = coordinator("runs", "--runs", runs).stdout

    assert run["state"] == "running"
    assert f"running, pid {run['pid']}" in shown


def test_runs_says_what_to_do_when_there_are_none(tmp_path: Path) -> None:
    assert "start one with `coordinator demo`" in coordinator("runs", "--runs", tmp_path).stdout
    assert document("runs", "--runs", tmp_path) == {"runs": []}


def test_runs_folder_comes_from_the_environment(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COORDINATOR_RUNS_FOLDER", str(runs))

    assert [run["run_id"] for run in document("runs")["runs"]] == [RUN_ID]


def test_show_tells_each_round_and_who_holds_them_up(runs: Path) -> None:
    shown = coordinator("show", RUN_ID, "--runs", runs).stdout

    assert "cnn on mnist, E=10 batches of 16" in shown
    assert [line.split()[:2] for line in shown.splitlines()[4:7]] == [["1", "60.00%"], ["2", "70.00%"], ["3", "80.00%"]]
    assert "straggler b: 6.00 s a round, the others 2.00 s; last in 3 of 3 rounds, in every one since round 1" in shown
    assert "refused" not in shown.splitlines()[-1]


def test_show_lists_refusals_by_reason(tmp_path: Path) -> None:
    make_run(tmp_path, [happened("started"), closed(1, refused={"a": {"stale-round": 2}, "unknown": {"malformed": 1}})])

    shown = coordinator("show", "--runs", tmp_path).stdout

    assert ["stale-round", "2", "a", "(2)"] in [line.split() for line in shown.splitlines()]
    assert document("show", "--runs", tmp_path)["refusals"] == {"stale-round": {"a": 2}, "malformed": {"unknown": 1}}


def test_show_leaves_out_early_rounds_of_a_long_run_unless_asked(tmp_path: Path) -> None:
    make_run(tmp_path, run_of(40, {"a": 1.0, "b": 1.0}))

    short, whole = (coordinator("show", "--runs", tmp_path, *more).stdout for more in ((), ("--all",)))

    assert "(10 earlier rounds: --all)" in short
    assert len(whole.splitlines()) == len(short.splitlines()) + 9


def test_show_gives_machines_the_shared_numbers(runs: Path) -> None:
    shown = document("show", "--runs", runs)

    assert shown["totals"]["final_accuracy"] == total(run_of(3, SLOW_B)).final_accuracy
    assert [record["round_number"] for record in shown["rounds"]] == [1, 2, 3]
    assert shown["straggler"]["agent_id"] == "b"


def test_show_of_a_run_that_has_just_begun_has_no_rounds(tmp_path: Path) -> None:
    make_run(tmp_path, [])

    result = coordinator("show", "--runs", tmp_path)

    assert result.exit_code == 0
    assert "nothing has happened yet" in result.stdout


def test_devices_shows_one_line_each(runs: Path) -> None:
    lines = coordinator("devices", "--runs", runs).stdout.splitlines()

    assert [line.split()[0] for line in lines[:4]] == ["device", "a", "b", "c"]
    assert lines[2].split()[3:] == ["3/3", "1.00", "0.75", "3.00", "6.00", "0.01", "300", "-"]


def test_devices_shows_temperatures_where_there_are_sensors(tmp_path: Path) -> None:
    make_run(tmp_path, [reported(1, "a", cpu_temperature_c=61.0, throttled=True), closed(1, ["a"])])

    header, line = coordinator("devices", "--runs", tmp_path).stdout.splitlines()[:2]

    assert "max C" in header
    assert len(line) <= 80
    assert line.split()[-3:] == ["61", "!", "-"]


def test_devices_gives_machines_the_shared_numbers(runs: Path) -> None:
    found = document("devices", "--runs", runs)["devices"]

    assert [device["latency_s"] for device in found] == [d.latency_s for d in summarise_devices(run_of(3, SLOW_B))]


def test_devices_says_how_long_ago_while_the_run_goes_on(tmp_path: Path) -> None:
    run = make_run(tmp_path, [happened("agent-online", START, "a")])

    with run.lock():
        line = coordinator("devices", "--runs", tmp_path).stdout.splitlines()[1]

    assert "d ago" in line


def test_unknown_run_is_refused_with_those_that_may_be_meant(runs: Path) -> None:
    text = complaint("show", "run-2", "--runs", runs)

    assert text == f"coordinator: there is no run 'run-2' in {runs}: did you mean {RUN_ID}?\n"


def test_latest_run_is_missed_in_one_line_when_there_is_none(tmp_path: Path) -> None:
    assert complaint("show", "--runs", tmp_path).startswith(f"coordinator: there is no run in {tmp_path}: start one")


def test_error_leaves_stdout_empty_with_json(runs: Path) -> None:
    result = coordinator("show", "nothing", "--runs", runs, "--json")

    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1


def test_export_writes_the_models_tensors_of_the_chosen_round(runs: Path, tmp_path: Path) -> None:
    folder = RunFolder.open(runs, RUN_ID).checkpoints_path
    for number in (1, 2):
        checkpoints.save(folder, number, {"w": np.full((2, 3), number, np.float64)}, {}, {})
    path = tmp_path / "model.safetensors"

    exported = document("export", RUN_ID, "--runs", runs, "--round", "1", "-o", path)

    weights = load_file(path)["w"]
    assert weights.dtype == np.float32
    assert weights.tolist() == [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    assert exported == {"run_id": RUN_ID, "round": 1, "path": str(path), "size_bytes": path.stat().st_size}


def test_export_takes_the_last_round_unless_told(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoints.save(RunFolder.open(runs, RUN_ID).checkpoints_path, 7, {"w": np.zeros(1, np.float32)}, {}, {})

    assert "round 7: run-1-round-0007.safetensors" in coordinator("export", "--runs", runs).stdout
    assert (tmp_path / "run-1-round-0007.safetensors").is_file()


def test_export_of_a_round_that_was_not_kept_says_which_were(runs: Path) -> None:
    assert "has no checkpoint yet" in complaint("export", "--runs", runs)
    folder = RunFolder.open(runs, RUN_ID).checkpoints_path
    for number in (1, 2, 3, 7):
        checkpoints.save(folder, number, {"w": np.zeros(1, np.float32)}, {}, {})

    assert "has no checkpoint of round 5: there are 1-3, 7" in complaint("export", "--runs", runs, "--round", "5")


def test_report_names_the_files_that_it_wrote(runs: Path) -> None:
    written = document("report", "--runs", runs)

    assert written["html"] == str(runs / RUN_ID / "report.html")
    assert all(Path(path).is_file() for path in [written["html"], *written["plots"]])


def test_partition_writes_a_folder_per_device_and_counts_classes(tmp_path: Path) -> None:
    out = tmp_path / "rooms"

    shares = document("partition", "--dataset", "digits", "--agents", "bath,hall", "--out", out)["agents"]

    assert [share["agent_id"] for share in shares] == ["bath", "hall"]
    assert all((Path(share["folder"]) / "examples.npz").is_file() for share in shares)
    # Pairs are dealt out in turn: 0 and 1 to the first, 2 and 3 to the second, and so on.
    assert [[count > 0 for count in share["class_counts"]] for share in shares] == [
        [True, True, False, False] * 2 + [True, True],
        [False, False, True, True] * 2 + [False, False],
    ]
    assert sum(share["num_examples"] for share in shares) == 1497


def test_partition_shows_a_table_and_names_rooms_when_given_a_number(tmp_path: Path) -> None:
    result = coordinator("partition", "--dataset", "digits", "--scheme", "iid", "--agents", "3", "--out", tmp_path)

    assert [line.split()[0] for line in result.stdout.splitlines()[2:5]] == ["room-1", "room-2", "room-3"]


def test_partition_does_not_replace_examples_unless_told(tmp_path: Path) -> None:
    arguments = ("partition", "--dataset", "digits", "--agents", "1", "--out", tmp_path)
    assert coordinator(*arguments).exit_code == 0

    assert "holds examples already: choose another --out, or --overwrite them" in complaint(*arguments)
    assert coordinator(*arguments, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("agents", "expected"),
    [
        ("a,Bath 2", "--agents: agent id 'Bath 2' is not valid"),
        ("a,a", "an id stands there twice"),
        ("a,coordinator", "--agents: agent id 'coordinator' is the coordinator's own name"),
        ("a,monitor", "'monitor' is the name of the broker's monitor"),
    ],
)
def test_partition_refuses_names_that_no_agent_can_have(tmp_path: Path, agents: str, expected: str) -> None:
    assert expected in complaint("partition", "--dataset", "digits", "--agents", agents, "--out", tmp_path)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--rounds", "0"], "command line: rounds.count: expected 1 or more, found 0"),
        (["--strategy", "fedavgg"], "did you mean 'fedavg'?"),
        (["--codec", "zip"], "codec 'zip': expected fp32, fp16"),
        (["--run-id", "Run 1"], "command line: run_id: expected 1 to 63 lower-case letters"),
        (["--target-accuracy", "95"], "command line: rounds.target_accuracy: expected 1.0 or less, found 95.0"),
    ],
)
def test_run_refuses_wrong_options_before_anything_is_made(tmp_path: Path, options: list[str], expected: str) -> None:
    config = tmp_path / "run.toml"
    config.write_text("")

    assert expected in complaint("run", config, "--runs", tmp_path / "runs", *options)
    assert not (tmp_path / "runs").exists()


def test_run_refuses_a_wrong_file_in_one_line(tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text("[rounds]\ncuont = 3")

    assert complaint("run", config) == (
        f"coordinator: {config}: there is no key 'rounds.cuont': did you mean 'rounds.count'?\n"
    )


@pytest.mark.parametrize("options", [["--strategy", "fedavgg"], ["--codec", "zip"]])
def test_demo_refuses_what_it_does_not_know_before_anything_starts(tmp_path: Path, options: list[str]) -> None:
    assert "expected" in complaint("demo", "--runs", tmp_path / "runs", *options)
    assert not (tmp_path / "runs").exists()


def test_resume_of_a_finished_run_needs_no_broker(runs: Path) -> None:
    result = document("resume", "--runs", runs)

    assert (result["outcome"], result["rounds"], result["rounds_to_target"]) == ("finished", 3, 1)


def test_metrics_push_says_what_is_missing_when_no_server_is_configured(runs: Path) -> None:
    text = complaint("metrics", "push", "--runs", runs)

    assert "has no section [influx]" in text
    assert "--config" in text
