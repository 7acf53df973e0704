"""Follows a run's folder: reads what was appended since the last look, and whether a process is running the run.

A look is taken when somebody asks and the last one is old enough, so a page that nobody watches costs nothing. Read
from several threads.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordinator.run_folder import RunFolder, newest_run_id, parse_record, read_lines
from coordinator.web.live_run import LiveRun
from schemas.errors import StorageError

LOOK_EVERY_S = 0.4
KEPT_RUNS = 4
"""So many runs are kept in memory; of more that are asked for in turn, the one that was asked for longest ago goes."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sight:
    """A run as it is now.

    Attributes:
        config: the run's config.json; holds paths of secrets, so nothing of it is shown unless chosen.
        running: a process holds its lock.
        version: changes whenever anything in here has.
    """

    run_id: str
    config: dict[str, Any]
    live: LiveRun
    running: bool
    version: str


class Follower:
    """One run's folder, and what has been read of it."""

    def __init__(self, folder: RunFolder, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._clock = clock
        self._live = LiveRun()
        self._running = False
        self._offset = 0
        self._changes = 0
        self._looked_at_s = float("-inf")
        self._lock = threading.Lock()

    @contextmanager
    def look(self) -> Iterator[Sight]:
        """The run as it is now; it does not change until the `with` ends.

        Raises:
            StorageError: its files cannot be read.
        """
        with self._lock:
            if self._clock() - self._looked_at_s >= LOOK_EVERY_S:
                self._read_on()
                self._looked_at_s = self._clock()
            folder = self._folder
            version = f"{folder.run_id}.{self._changes}"
            yield Sight(folder.run_id, folder.config, self._live, self._running, version)

    def _read_on(self) -> None:
        path = self._folder.record_path
        if path.stat().st_size < self._offset:
            log.warning("%s has become shorter: reading it from its beginning", path)
            self._live, self._offset = LiveRun(), 0
        for line in read_lines(path, self._offset):
            self._offset += len(line)
            self._changes += 1
            record = parse_record(line, path)
            if record is not None:
                self._live.add(record)
        running = self._folder.lock_holder() is not None
        self._changes += running != self._running
        self._running = running


class Followers:
    """The runs of a folder: a named one, or the newest.

    Args:
        named: the only run that is shown; None for the newest, and others by name.
        clock: monotonic seconds.
    """

    def __init__(self, root: Path, named: str | None, clock: Callable[[], float]) -> None:
        self.root = root
        self.named = named
        self._clock = clock
        self._kept: dict[str, Follower] = {}
        self._lock = threading.Lock()

    @contextmanager
    def look(self, run_id: str | None = None) -> Iterator[Sight | None]:
        """See `Follower.look`; None when there is no run yet, or not yet the named one.

        Args:
            run_id: which; otherwise the named one, or the newest.

        Raises:
            StorageError: there is no such run, or its files cannot be read.
        """
        wanted = run_id or self.named or newest_run_id(self.root)
        if wanted is None or (run_id is None and not (self.root / wanted / "config.json").exists()):
            yield None
            return
        try:
            with self._follower(wanted).look() as sight:
                yield sight
        except OSError as error:
            raise StorageError(f"cannot read the run {wanted}: {error.strerror or error}") from error

    def _follower(self, run_id: str) -> Follower:
        with self._lock:
            found = self._kept.pop(run_id, None) or Follower(RunFolder.open(self.root, run_id), self._clock)
            self._kept[run_id] = found
            while len(self._kept) > KEPT_RUNS:
                del self._kept[next(iter(self._kept))]
            return found
