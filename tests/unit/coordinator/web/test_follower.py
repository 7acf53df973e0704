"""A run's folder is read on from where the last look ended, when somebody looks."""

from pathlib import Path

import pytest

from coordinator.run_folder import RunFolder
from coordinator.summary import Record
from coordinator.web.follower import KEPT_RUNS, LOOK_EVERY_S, Followers
from schemas.errors import StorageError
from tests.unit.coordinator.recorded import closed, happened


class Clock:
    """Time that passes when a test says so."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make_run(root: Path, run_id: str, *records: Record) -> RunFolder:
    folder = RunFolder.create(root, run_id, {"rounds": {"count": 5}})
    append(folder, *records)
    return folder


def append(folder: RunFolder, *records: Record) -> None:
    with folder.lock():
        for record in records:
            folder.append(record)


def rounds_seen(followers: Followers, run_id: str | None = None) -> list[int]:
    with followers.look(run_id) as sight:
        assert sight is not None
        return list(sight.live.rounds)


def test_look_reads_what_was_appended_since_the_last_one(tmp_path: Path, clock: Clock) -> None:
    folder = make_run(tmp_path, "one", closed(1))
    followers = Followers(tmp_path, None, clock)
    assert rounds_seen(followers) == [1]

    append(folder, closed(2), closed(3))
    assert rounds_seen(followers) == [1]
    clock.now_s += LOOK_EVERY_S
    assert rounds_seen(followers) == [1, 2, 3]


def test_line_that_is_being_written_is_read_when_it_is_complete(tmp_path: Path, clock: Clock) -> None:
    folder = make_run(tmp_path, "one", closed(1))
    line = closed(2).model_dump_json() + "\n"
    followers = Followers(tmp_path, None, clock)
    with folder.record_path.open("a") as file:
        file.write(line[:100])
        file.flush()
        assert rounds_seen(followers) == [1]
        file.write(line[100:])
    clock.now_s += LOOK_EVERY_S

    assert rounds_seen(followers) == [1, 2]


def test_version_changes_with_the_record_and_with_who_runs_it_and_not_otherwise(tmp_path: Path, clock: Clock) -> None:
    folder = make_run(tmp_path, "one", closed(1))
    followers = Followers(tmp_path, None, clock)
    versions = []

    def look() -> None:
        clock.now_s += 1.0
        with followers.look() as sight:
            assert sight is not None
            versions.append((sight.version, sight.running))

    look()
    look()
    with folder.lock():
        look()
        folder.append(closed(2))
        look()
    look()

    texts = [version for version, _ in versions]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 4
    assert [running for _, running in versions] == [False, False, True, True, False]


def test_newest_run_is_followed_as_soon_as_it_is_there(tmp_path: Path, clock: Clock) -> None:
    followers = Followers(tmp_path / "runs", None, clock)
    with followers.look() as nothing:
        assert nothing is None

    make_run(tmp_path / "runs", "one", closed(1))
    assert rounds_seen(followers) == [1]
    make_run(tmp_path / "runs", "two", closed(7))
    assert rounds_seen(followers) == [7]
    assert rounds_seen(followers, "one") == [1]


def test_named_run_may_be_started_later(tmp_path: Path, clock: Clock) -> None:
    followers = Followers(tmp_path, "mine", clock)
    with followers.look() as nothing:
        assert nothing is None

    make_run(tmp_path, "mine", closed(1))
    make_run(tmp_path, "other", closed(2))

    assert rounds_seen(followers) == [1]


def test_only_a_few_runs_are_kept_and_the_others_read_again(tmp_path: Path, clock: Clock) -> None:
    followers = Followers(tmp_path, None, clock)
    for number in range(1, KEPT_RUNS + 3):
        make_run(tmp_path, f"run-{number}", closed(number))

    for _ in range(2):
        for number in range(1, KEPT_RUNS + 3):
            assert rounds_seen(followers, f"run-{number}") == [number]


def test_record_that_was_replaced_by_a_shorter_one_is_read_from_its_beginning(tmp_path: Path, clock: Clock) -> None:
    folder = make_run(tmp_path, "one", closed(1), closed(2))
    followers = Followers(tmp_path, None, clock)
    assert rounds_seen(followers) == [1, 2]

    folder.record_path.write_text(closed(3).model_dump_json() + "\n")
    clock.now_s += LOOK_EVERY_S

    assert rounds_seen(followers) == [3]


def test_damaged_line_is_passed_over(tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    folder = make_run(tmp_path, "one", happened("started"))
    with folder.record_path.open("a") as file:
        file.write("{not json}\n" + closed(1).model_dump_json() + "\n")

    assert rounds_seen(Followers(tmp_path, None, clock)) == [1]
    assert "not a record" in caplog.text


def test_run_whose_record_is_gone_is_an_error_that_names_it(tmp_path: Path, clock: Clock) -> None:
    folder = make_run(tmp_path, "one")
    folder.record_path.unlink()

    with pytest.raises(StorageError, match="cannot read the run one"), Followers(tmp_path, None, clock).look():
        pass
