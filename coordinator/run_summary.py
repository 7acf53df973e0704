"""One run in one line, for the list of runs: how far it is and how it went."""

from dataclasses import dataclass
from pathlib import Path

from coordinator.run_folder import RunFolder
from schemas.records import RoundRecord, RunEvent

OUTCOMES = ("finished", "aborted")


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Where a run stands.

    Attributes:
        state: `running` while a process holds its lock; `finished` or `aborted`; otherwise `stopped`: it can be
            resumed.
        pid: of the process that runs it.
        started_at, last_at: UTC seconds of the first and the latest thing that happened, or None.
        rounds_closed: the number of the last closed round.
        accuracy: of the last round that was evaluated, or None.
    """

    run_id: str
    path: Path
    state: str
    pid: int | None
    started_at: float | None
    last_at: float | None
    rounds_closed: int
    accuracy: float | None


def summarise(run: RunFolder) -> RunSummary:
    """Read what the list of runs shows.

    Raises:
        StorageError: the run's files cannot be read.
    """
    records = run.records(("round", "event"))
    rounds = [record for record in records if isinstance(record, RoundRecord)]
    events = [record for record in records if isinstance(record, RunEvent)]
    pid = run.lock_holder()
    evaluated = [record.accuracy for record in rounds if record.accuracy is not None]
    moments = [event.at for event in events] + [record.started_at + record.duration_s for record in rounds]
    return RunSummary(
        run_id=run.run_id,
        path=run.path,
        state=_state(events, pid),
        pid=pid,
        started_at=min(moments, default=None),
        last_at=max(moments, default=None),
        rounds_closed=max((record.round_number for record in rounds), default=0),
        accuracy=evaluated[-1] if evaluated else None,
    )


def _state(events: list[RunEvent], pid: int | None) -> str:
    if pid is not None:
        return "running"
    turns = [event.name for event in events if event.name in (*OUTCOMES, "started", "resumed", "stopped")]
    return turns[-1] if turns and turns[-1] in OUTCOMES else "stopped"
