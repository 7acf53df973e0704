"""How many checkpoints a run's folder keeps while a run goes on."""

from pathlib import Path

import numpy as np
import pytest

from coordinator import checkpoints
from coordinator.checkpoints import Keep
from coordinator.run_folder import RunFolder
from coordinator.store import FolderStore

WEIGHTS = {"w": np.zeros(1000, np.float32)}


def save(store: FolderStore, rounds: range) -> None:
    for number in rounds:
        store.save_checkpoint(number, WEIGHTS, {}, {})


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A new run."""
    return RunFolder.create(tmp_path, "run-1", {})


@pytest.fixture
def size_bytes(folder: RunFolder) -> int:
    """Of one checkpoint."""
    save(FolderStore(folder), range(1, 2))
    return checkpoints.total_bytes(folder.checkpoints_path)


def test_oldest_checkpoints_go_when_there_is_no_more_room(folder: RunFolder, size_bytes: int) -> None:
    store = FolderStore(folder, Keep(max_bytes=16 * size_bytes + 8, last=2))

    save(store, range(2, 30))

    kept = checkpoints.saved_rounds(folder.checkpoints_path)
    assert kept == list(range(kept[0], 30))
    assert 13 <= len(kept) <= 16


def test_checkpoints_of_before_count_when_a_run_is_resumed(folder: RunFolder, size_bytes: int) -> None:
    save(FolderStore(folder), range(2, 10))

    save(FolderStore(folder, Keep(max_bytes=4 * size_bytes + 8, last=2)), range(10, 11))

    assert checkpoints.saved_rounds(folder.checkpoints_path) == [8, 9, 10]


def test_last_checkpoints_stay_when_they_are_larger_than_all_may_be(folder: RunFolder, size_bytes: int) -> None:
    save(FolderStore(folder, Keep(max_bytes=size_bytes // 2, last=2)), range(2, 6))

    assert checkpoints.saved_rounds(folder.checkpoints_path) == [4, 5]


def test_folder_is_not_looked_through_after_every_round(
    folder: RunFolder, size_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Path] = []
    real = checkpoints.total_bytes

    def look(path: Path) -> int:
        looks.append(path)
        return real(path)

    monkeypatch.setattr(checkpoints, "total_bytes", look)

    save(FolderStore(folder, Keep(max_bytes=100 * size_bytes)), range(2, 42))

    assert len(looks) <= 2
