"""Control groups in both layouts, in a folder that stands for the kernel's file system; hosts use the real one."""

from pathlib import Path

import pytest

from tests.testbed.cgroups import PERIOD_US, Cgroup


def files(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("")
    return folder


@pytest.fixture
def hybrid(tmp_path: Path) -> Path:
    """A machine with a hierarchy for each controller, as far as they are needed here."""
    for name in ("cpu", "systemd"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def unified(tmp_path: Path) -> Path:
    """A machine with one hierarchy."""
    return files(tmp_path, "cgroup.controllers", "cgroup.subtree_control")


@pytest.mark.parametrize(("cores", "quota"), [(0.25, str(PERIOD_US // 4)), (None, "-1")])
def test_share_of_the_cpu_is_written_where_version_1_reads_it(hybrid: Path, cores: float | None, quota: str) -> None:
    group = Cgroup("bed/pi1", hybrid)
    group.create()

    group.limit_cpu(cores)

    assert (hybrid / "cpu/bed/pi1/cpu.cfs_quota_us").read_text() == quota


@pytest.mark.parametrize(("cores", "maximum"), [(0.25, f"{PERIOD_US // 4} {PERIOD_US}"), (None, f"max {PERIOD_US}")])
def test_share_of_the_cpu_is_written_where_version_2_reads_it(unified: Path, cores: float | None, maximum: str) -> None:
    files(unified / "bed", "cgroup.subtree_control")
    group = Cgroup("bed/pi1", unified)
    group.create()

    group.limit_cpu(cores)

    assert (unified / "bed/pi1/cpu.max").read_text() == maximum


def test_processes_of_groups_below_count_and_are_named_once(hybrid: Path) -> None:
    group = Cgroup("bed/pi1", hybrid)
    group.create()
    (hybrid / "cpu/bed/pi1/cgroup.procs").write_text("7\n8\n")
    files(hybrid / "systemd/bed/pi1/init.scope", "cgroup.procs")
    (hybrid / "systemd/bed/pi1/init.scope/cgroup.procs").write_text("8\n9\n")

    assert group.pids() == [7, 8, 9]


def test_group_goes_with_all_below_it_and_may_be_gone_already(hybrid: Path) -> None:
    group = Cgroup("bed/pi1", hybrid)
    group.create()
    (hybrid / "systemd/bed/pi1/init.scope").mkdir()

    group.remove()
    group.remove()

    assert not (hybrid / "systemd/bed/pi1").exists()
