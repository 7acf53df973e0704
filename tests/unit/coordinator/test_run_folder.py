"""A run's folder: what it keeps, who may write it, and what is left after a crash or on a full disk."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.run_folder import Record, RunFolder, list_runs, new_run_id
from schemas.errors import ConfigError, StorageError
from schemas.identifiers import is_identifier
from tests.kill_points import survive_every_kill
from tests.sample_records import device_record, round_record, run_event
from tests.unit.coordinator.disk_limit import no_file_beyond

KIB = 1024


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, "run-1", {"rounds": 3})


def test_run_id_sorts_by_time_when_made_later() -> None:
    earlier, later = new_run_id(1_795_434_300.0), new_run_id(1_795_434_301.0)

    assert earlier.startswith("20261123-114500-")
    assert is_identifier(earlier)
    assert earlier < later


def test_run_id_differs_when_made_in_the_same_second() -> None:
    assert len({new_run_id(0.0) for _ in range(20)}) > 15


def test_config_is_read_back_when_run_is_opened(run: RunFolder) -> None:
    opened = RunFolder.open(run.path.parent, "run-1")

    assert opened.config == {"rounds": 3}
    assert opened.path == run.path


def test_create_is_refused_when_run_exists(run: RunFolder) -> None:
    with pytest.raises(StorageError, match=r"run-1 exists already"):
        RunFolder.create(run.path.parent, "run-1", {})


def test_create_is_refused_when_root_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")

    with pytest.raises(StorageError, match=r"cannot make the folder .*runs"):
        RunFolder.create(tmp_path / "runs", "run-1", {})


@pytest.mark.parametrize("run_id", ["../elsewhere", "a/b", "", "UPPER"])
def test_open_is_refused_when_id_could_leave_the_folder(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(ConfigError, match="run id"):
        RunFolder.open(tmp_path, run_id)


def test_open_names_the_file_when_run_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no run 'run-9' in .*config\.json is missing"):
        RunFolder.open(tmp_path, "run-9")


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_open_names_the_file_when_config_is_damaged(run: RunFolder, content: str) -> None:
    (run.path / "config.json").write_text(content)

    with pytest.raises(StorageError, match=r"cannot read .*config\.json"):
        RunFolder.open(run.path.parent, "run-1")


def test_nothing_is_writable_by_others_when_umask_allows_everything(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        run = RunFolder.create(tmp_path / "runs", "run-1", {})
        with run.lock():
            run.append(round_record())
    finally:
        os.umask(umask)

    modes = {path.name: path.stat().st_mode for path in [run.path.parent, run.path, *run.path.iterdir()]}
    assert {name for name, mode in modes.items() if mode & (stat.S_IWGRP | stat.S_IWOTH)} == set()


def test_run_is_absent_or_complete_when_create_is_killed(tmp_path: Path) -> None:
    roots = [tmp_path / "0"]

    def check() -> None:
        found = list_runs(roots[-1])
        assert [run.config for run in found] in ([], [{"rounds": 3}])
        for run in found:
            assert run.records() == []
            assert run.checkpoints_path.is_dir()
        roots.append(tmp_path / str(len(roots)))

    deaths = survive_every_kill(lambda: RunFolder.create(roots[-1], "run-1", {"rounds": 3}), check)

    assert deaths > 10
    assert len(list_runs(roots[deaths])) == 1


def test_runs_are_listed_newest_first_when_there_are_several(tmp_path: Path) -> None:
    for seconds, run_id in enumerate(["b", "c", "a"]):
        run = RunFolder.create(tmp_path, run_id, {})
        os.utime(run.path / "config.json", (seconds, seconds))
    (tmp_path / "not-a-run").mkdir()

    assert [run.run_id for run in list_runs(tmp_path)] == ["a", "c", "b"]


def test_no_runs_are_listed_when_root_does_not_exist(tmp_path: Path) -> None:
    assert list_runs(tmp_path / "runs") == []


def test_records_come_back_equal_when_appended(run: RunFolder) -> None:
    written: list[Record] = [run_event(), device_record(), round_record(), device_record(2), round_record(2)]
    with run.lock():
        for record in written:
            run.append(record)

    assert run.records() == written


def test_only_wanted_types_are_read_when_asked_for(run: RunFolder) -> None:
    with run.lock():
        for record in (run_event(), device_record(), round_record()):
            run.append(record)

    assert run.records(("round", "event")) == [run_event(), round_record()]


def test_last_record_wins_when_key_repeats(run: RunFolder) -> None:
    repeated = round_record(1, accuracy=0.9)
    with run.lock():
        for record in (round_record(1), device_record(1), repeated):
            run.append(record)

    assert run.records() == [repeated, device_record(1)]


def test_append_is_refused_when_lock_is_not_held(run: RunFolder) -> None:
    with pytest.raises(StorageError, match="lock"):
        run.append(round_record())


def test_torn_line_is_skipped_and_then_removed_when_writer_died(run: RunFolder) -> None:
    with run.lock():
        run.append(round_record())
    with run.record_path.open("ab") as file:
        file.write(b'{"type":"device","run_id":"ru')

    assert run.records() == [round_record()]
    with run.lock():
        run.append(round_record(2))
    assert run.records() == [round_record(), round_record(2)]


def test_torn_line_is_removed_when_it_is_longer_than_a_block(run: RunFolder) -> None:
    with run.lock():
        run.append(round_record())
    with run.record_path.open("ab") as file:
        file.write(b"\0" * 200_000)  # what some file systems leave after a power cut

    with run.lock():
        pass

    assert run.record_path.read_bytes() == round_record().model_dump_json().encode() + b"\n"


def test_line_is_skipped_with_a_warning_when_it_is_no_record(run: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    with run.lock():
        run.append(round_record())
        with run.record_path.open("ab") as file:
            file.write(b'{"type":"from-the-future"}\n')
        run.append(round_record(2))

    assert run.records() == [round_record(), round_record(2)]
    assert "record.jsonl" in caplog.text
    assert "from-the-future" in caplog.text


def test_earlier_records_stay_when_append_is_killed(run: RunFolder) -> None:
    def write() -> None:
        with run.lock():
            run.append(device_record())
            run.append(round_record())

    def check() -> None:
        with run.lock():
            run.append(run_event())
        assert run.records()[0] == run_event("earlier")

    with run.lock():
        run.append(run_event("earlier"))
    deaths = survive_every_kill(write, check)

    assert deaths >= 7
    assert run.records() == [run_event("earlier"), run_event(), device_record(), round_record()]


def test_next_append_succeeds_when_one_found_the_disk_full(run: RunFolder) -> None:
    line_bytes = len(round_record().model_dump_json()) + 1
    run.record_path.write_bytes(b"x" * (64 * KIB - line_bytes // 2) + b"\n")
    with run.lock():
        with no_file_beyond(64 * KIB), pytest.raises(StorageError, match=r"cannot write .*record\.jsonl: .+"):
            run.append(round_record(1))
        run.append(round_record(2))

    assert run.records() == [round_record(2)]


def test_append_mends_the_file_first_when_taking_back_failed(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with run.lock():
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            patch.setattr(os, "ftruncate", fail)
            with pytest.raises(StorageError, match="Input/output error"):
                run.append(round_record(1))
        run.append(round_record(2))

    assert run.records() == [round_record(2)]


@pytest.mark.parametrize(("durable", "expected"), [(True, 1), (False, 0)])
def test_record_is_forced_onto_disk_when_durable(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, durable: bool, expected: int
) -> None:
    synced: list[int] = []
    with run.lock():
        monkeypatch.setattr(os, "fsync", synced.append)
        run.append(device_record(), durable=durable)

    assert len(synced) == expected


def test_round_record_is_forced_onto_disk_when_appended(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    with run.lock():
        monkeypatch.setattr(os, "fsync", synced.append)
        run.append(round_record())

    assert len(synced) == 1


def test_second_writer_is_refused_with_the_pid_when_run_is_locked(run: RunFolder, other_writer: int) -> None:
    with pytest.raises(StorageError, match=rf"run run-1 is in use by another process, pid {other_writer}\b"):
        _lock_and_leave(run)
    assert run.lock_holder() == other_writer


def test_run_can_be_locked_again_when_writer_was_killed(run: RunFolder, other_writer: int) -> None:
    os.kill(other_writer, signal.SIGKILL)
    os.waitpid(other_writer, 0)

    _lock_and_leave(run)

    assert run.lock_holder() is None


def test_lock_is_free_when_its_block_failed(run: RunFolder) -> None:
    with pytest.raises(ZeroDivisionError), run.lock():
        1 / 0  # noqa: B018

    assert run.lock_holder() is None


def _lock_and_leave(run: RunFolder) -> None:
    with run.lock():
        pass


@pytest.fixture
def other_writer(run: RunFolder) -> Iterator[int]:
    """The pid of another process that holds the run's lock."""
    code = (
        "import sys, pathlib; from coordinator.run_folder import RunFolder\n"
        "with RunFolder.open(pathlib.Path(sys.argv[1]), 'run-1').lock(): print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(run.path.parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        yield process.pid
        process.kill()
