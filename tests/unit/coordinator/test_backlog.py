"""What has to be sent next: from the cursor on, whole lines only, and never more than the disk has."""

import os
from pathlib import Path

import pytest

from coordinator.backlog import Backlog
from coordinator.run_folder import RunFolder
from schemas.errors import StorageError
from schemas.metrics import Point
from tests.sample_records import STARTED_AT, device_record, round_record, run_event
from tests.unit.coordinator.disk_limit import no_file_beyond

ALL = 1000


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with three records, which make four points."""
    folder = RunFolder.create(tmp_path, "run-1", {})
    with folder.lock():
        folder.append(run_event())
        folder.append(device_record())
        folder.append(round_record())
    return folder


def append(run: RunFolder, number: int) -> None:
    with run.lock():
        run.append(device_record(number))


def rounds_of(points: list[Point]) -> list[object]:
    return [point.fields["round_number"] for point in points]


def acknowledge_all(run: RunFolder, target: str = "here") -> None:
    backlog = Backlog(run, target)
    backlog.next_points(ALL)
    backlog.acknowledge()


def test_same_points_come_again_when_not_acknowledged(run: RunFolder) -> None:
    backlog = Backlog(run, "here")

    first = backlog.next_points(ALL)

    assert len(first) == 4
    assert backlog.next_points(ALL) == first
    assert backlog.waiting_lines() == 3


def test_points_of_whole_lines_come_when_fewer_are_asked_for(run: RunFolder) -> None:
    backlog = Backlog(run, "here")
    sizes = []
    while points := backlog.next_points(1):
        sizes.append(len(points))
        backlog.acknowledge()

    assert sizes == [1, 1, 2]


def test_only_new_points_come_when_process_starts_again(run: RunFolder) -> None:
    acknowledge_all(run)
    append(run, 2)

    backlog = Backlog(run, "here")

    assert backlog.waiting_lines() == 1
    assert rounds_of(backlog.next_points(ALL)) == [2]


def test_repeated_round_takes_the_first_ones_place_when_process_starts_again(run: RunFolder) -> None:
    acknowledge_all(run)
    with run.lock():
        run.append(round_record(1, started_at=STARTED_AT + 99, refused={}))

    again = Backlog(run, "here").next_points(ALL)

    assert {point.time_ns for point in again} == {1_790_000_010_250_000_000}
    assert [point.fields.get("count") for point in again] == [None, 0]


def test_everything_comes_when_server_is_another_one(run: RunFolder) -> None:
    acknowledge_all(run, "there")

    assert len(Backlog(run, "here").next_points(ALL)) == 4


def test_everything_comes_when_asked_to_start_anew(run: RunFolder) -> None:
    acknowledge_all(run)

    assert len(Backlog(run, "here", anew=True).next_points(ALL)) == 4


@pytest.mark.parametrize("content", ["", "{", "[]", '{"target": "here"}', '{"target":"here","bytes":9,"sha256":"x"}'])
def test_everything_comes_when_cursor_is_damaged(run: RunFolder, content: str) -> None:
    acknowledge_all(run)
    run.cursor_path.write_text(content)

    assert len(Backlog(run, "here").next_points(ALL)) == 4


def test_everything_comes_when_record_is_not_the_one_that_was_sent(run: RunFolder) -> None:
    acknowledge_all(run)
    content = run.record_path.read_bytes()
    run.record_path.write_bytes(content.replace(b'"loss":0.75', b'"loss":0.25'))

    assert len(Backlog(run, "here").next_points(ALL)) == 4


def test_everything_comes_when_read_lines_were_taken_back(run: RunFolder) -> None:
    backlog = Backlog(run, "here")
    backlog.next_points(ALL)
    backlog.acknowledge()
    content = run.record_path.read_bytes()
    run.record_path.write_bytes(content[: content.index(b"\n") + 1])
    append(run, 7)

    assert rounds_of(backlog.next_points(ALL)) == [0, 7]


def test_torn_line_waits_when_it_is_being_written(run: RunFolder) -> None:
    acknowledge_all(run)
    backlog = Backlog(run, "here")
    line = device_record(2).model_dump_json().encode() + b"\n"

    with run.record_path.open("ab", buffering=0) as file:
        file.write(line[:50])
        assert (backlog.next_points(ALL), backlog.waiting_lines()) == ([], 0)
        file.write(line[50:])

    assert rounds_of(backlog.next_points(ALL)) == [2]


def test_line_is_passed_over_when_it_is_no_record(run: RunFolder) -> None:
    acknowledge_all(run)
    with run.record_path.open("ab") as file:
        file.write(b'{"type":"from-the-future"}\n')
    backlog = Backlog(run, "here")

    assert backlog.next_points(ALL) == []
    backlog.acknowledge()

    assert backlog.waiting_lines() == 0


def test_lines_are_on_disk_when_they_are_given_out(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink().name))
    backlog = Backlog(run, "here")

    backlog.next_points(ALL)
    backlog.next_points(ALL)

    assert synced == ["record.jsonl"]


def test_lines_written_after_the_sync_wait_when_points_are_read(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def append_meanwhile(_fd: int) -> None:
        with run.record_path.open("ab") as file:
            file.write(device_record(2).model_dump_json().encode() + b"\n")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", append_meanwhile)
        points = Backlog(run, "here").next_points(ALL)

    assert rounds_of(points) == [0, 1, 1, 1]


def test_points_come_once_more_when_disk_fails_while_they_are_read(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_fd: int) -> None:
        raise OSError(5, "Input/output error")

    backlog = Backlog(run, "here")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StorageError, match=r"record\.jsonl: Input/output error"):
            backlog.next_points(ALL)

    assert len(backlog.next_points(ALL)) == 4


def test_cursor_is_written_later_when_disk_was_full(run: RunFolder) -> None:
    backlog = Backlog(run, "here")
    backlog.next_points(ALL)
    with no_file_beyond(0), pytest.raises(StorageError, match=r"metrics\.cursor"):
        backlog.acknowledge()

    assert backlog.next_points(ALL) == []
    backlog.acknowledge()

    assert Backlog(run, "here").next_points(ALL) == []
