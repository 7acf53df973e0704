"""A control group per host: by it a host's processes are found, and its share of the CPU is set.

Knows both layouts: one hierarchy for everything (version 2) and one for each controller (version 1, and the hybrid of
both that older machines and some virtual ones have). The hybrid is the one that has been run.
"""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from tests.testbed.names import TestbedError

MOUNT = Path("/sys/fs/cgroup")
PERIOD_US = 20_000
"""Of the CPU quota; shorter than the default of 100 ms, so that a throttled host is slow and not jerky."""

_V1_HIERARCHIES = ("cpu", "memory", "pids", "systemd", "unified")
_LIMIT_S = 20.0
_POLL_S = 0.05


class Cgroup:
    """A control group at the same place in every hierarchy that matters.

    systemd's own (`systemd` and `unified`) are among them: otherwise all hosts' systemds would manage one tree.
    """

    def __init__(self, path: str, mount: Path = MOUNT) -> None:
        self._mount = mount
        self._path = path
        self.unified = (mount / "cgroup.controllers").exists()
        if self.unified:
            self._folders = [mount / path]
        else:
            self._folders = [mount / name / path for name in _V1_HIERARCHIES if (mount / name).is_dir()]

    @property
    def process_files(self) -> list[Path]:
        """A process that writes its id into each of these has joined the group."""
        return [folder / "cgroup.procs" for folder in self._folders]

    @property
    def parent(self) -> "Cgroup":
        """The group that holds this one."""
        return Cgroup(str(Path(self._path).parent), self._mount)

    def create(self) -> None:
        """Make the group; a no-op when it is there."""
        for folder in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
        if self.unified:
            for parent in (self._mount, self._folders[0].parent):
                (parent / "cgroup.subtree_control").write_text("+cpu +memory +pids")

    def limit_cpu(self, cores: float | None) -> None:
        """Give the group at most this many cores; None lifts the limit."""
        quota_us = None if cores is None else round(cores * PERIOD_US)
        if self.unified:
            (self._folders[0] / "cpu.max").write_text(f"{quota_us or 'max'} {PERIOD_US}")
        else:
            (self._mount / "cpu" / self._path / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (self._mount / "cpu" / self._path / "cpu.cfs_quota_us").write_text(str(quota_us or -1))

    def set_weight(self, machines: int) -> None:
        """Let the group compete for the CPU like this many programs, not like one."""
        if self.unified:
            (self._folders[0] / "cpu.weight").write_text(str(100 * machines))
        else:
            (self._mount / "cpu" / self._path / "cpu.shares").write_text(str(1024 * machines))

    def pids(self) -> list[int]:
        """The processes of the group and of those below it."""
        found: set[int] = set()
        for folder in self._below():
            try:
                found |= {int(line) for line in (folder / "cgroup.procs").read_text().split()}
            except OSError:
                continue  # it went while we looked
        return sorted(found)

    def kill(self) -> None:
        """End every process of the group the hard way, and wait until they are gone."""
        deadline_s = time.monotonic() + _LIMIT_S
        while pids := self.pids():
            if time.monotonic() > deadline_s:
                raise TestbedError(f"control group {self._path}: processes {pids} do not end")
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(_POLL_S)

    def remove(self) -> None:
        """Remove the group and those below it; a no-op when there is none. Its processes must have ended."""
        for folder in reversed(self._below()):
            with suppress(FileNotFoundError):
                folder.rmdir()

    def _below(self) -> list[Path]:
        """The group's folders and all below them, each after the one that it lies in. Groups may go while we look."""
        return [Path(path) for top in self._folders for path, _, _ in os.walk(top)]
