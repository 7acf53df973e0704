"""An agent's memory across restarts: its pending update and what it carries from round to round.

One folder per run, one file per thing, each written to a temporary file, synced and renamed, so that a power cut
leaves the old or the new, never a half. What cannot be read is set aside and said, as the work can be done anew.
"""

import logging
import os
import re
import shutil
from pathlib import Path

from edge_agent.events import Carry, PendingUpdate
from schemas import wire
from schemas.errors import PayloadError, StorageError
from schemas.messages import BlobHeader
from schemas.weights import decode, encode

log = logging.getLogger(__name__)

_FILE = re.compile(r"(update|carry)-(\d{1,7})\.safetensors\Z")


class Spool:
    """The folder of one agent's updates and carries.

    Args:
        folder: made if it is missing, readable by the agent alone.
        agent_id: updates of anybody else that lie there are ignored.
    """

    def __init__(self, folder: Path, agent_id: str) -> None:
        self._folder = folder
        self._agent_id = agent_id
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"the agent's state folder {folder} cannot be made: {error}") from error

    def keep(self, update: PendingUpdate) -> None:
        """Put an update and its carry on disk; the carry first, as an update without it would be worth less."""
        run = self._folder / update.run_id
        try:
            run.mkdir(mode=0o700, exist_ok=True)
            if update.carry:
                _write(_path(run, "carry", update.round_number), encode(update.carry))
            _write(_path(run, "update", update.round_number), update.blob)
        except OSError as error:
            raise StorageError(f"cannot keep the update in {run}: {error.strerror or error}") from error

    def forget_update(self, run_id: str, round_number: int, *, accepted: bool) -> None:
        """The round is closed: the update goes, and unless it was accepted, its carry too."""
        run = self._folder / run_id
        _path(run, "update", round_number).unlink(missing_ok=True)
        if not accepted:
            _path(run, "carry", round_number).unlink(missing_ok=True)

    def forget_carries_before(self, run_id: str, round_number: int) -> None:
        """Remove carries of earlier rounds."""
        for kind, number, path in _files(self._folder / run_id):
            if kind == "carry" and number < round_number:
                path.unlink(missing_ok=True)

    def forget_other_runs(self, run_id: str) -> None:
        """Remove everything of other runs."""
        for path in self._folder.iterdir():
            if path.is_dir() and path.name != run_id:
                shutil.rmtree(path, ignore_errors=True)

    def load(self) -> tuple[str, PendingUpdate | None, dict[int, Carry]]:
        """The run, the pending update if there is one, and carries by round; of several runs, the latest written."""
        runs = [path for path in self._folder.iterdir() if path.is_dir()]
        if not runs:
            return "", None, {}
        run = max(runs, key=lambda path: path.stat().st_mtime_ns)
        carries: dict[int, Carry] = {}
        updates: list[tuple[int, Path]] = []
        for kind, number, path in _files(run):
            if kind == "update":
                updates.append((number, path))
            else:
                try:
                    carries[number] = decode(path.read_bytes())[1]
                except (PayloadError, OSError) as error:
                    _set_aside(path, error)
        pending = self._load_update(run.name, *max(updates), carries) if updates else None
        if pending is not None:
            # It takes effect only once the coordinator says that the update was accepted.
            carries.pop(pending.round_number, None)
        return run.name, pending, carries

    def _load_update(
        self, run_id: str, round_number: int, path: Path, carries: dict[int, Carry]
    ) -> PendingUpdate | None:
        try:
            blob = path.read_bytes()
            header = wire.decode(decode(blob)[0], BlobHeader).message
        except (PayloadError, OSError) as error:
            _set_aside(path, error)
            return None
        if (header.sender, header.run_id, header.round_number) != (self._agent_id, run_id, round_number):
            _set_aside(path, "it is not this agent's update of that round")
            return None
        return PendingUpdate(run_id, round_number, header.base_sha256, blob, carries.get(round_number, {}))


def _path(run: Path, kind: str, round_number: int) -> Path:
    return run / f"{kind}-{round_number:07d}.safetensors"


def _files(run: Path) -> list[tuple[str, int, Path]]:
    found = []
    for path in sorted(run.iterdir()) if run.is_dir() else []:
        match = _FILE.match(path.name)
        if match:
            found.append((match[1], int(match[2]), path))
    return found


def _write(path: Path, content: bytes | memoryview) -> None:
    scratch = path.with_suffix(".part")
    with scratch.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _set_aside(path: Path, why: object) -> None:
    log.warning("%s cannot be used (%s): set aside as .damaged, the round is trained anew", path, why)
    path.replace(path.with_suffix(".damaged"))
