"""`coordinator release`: let an agent out of quarantine, in a run that goes on or will be resumed."""

from pathlib import Path
from typing import Annotated

import typer

from coordinator.commands.conversation import LATEST, RunId, RunsFolder, errors_in_one_line, open_run, talk
from coordinator.quarantine import quarantined
from coordinator.run_summary import summarise
from schemas.errors import StorageError
from schemas.records import RunEvent


def release(
    agent_id: Annotated[str, typer.Argument(help="The agent that may take part again.", metavar="AGENT")],
    run_id: RunId = LATEST,
    runs_folder: RunsFolder = Path("runs"),
) -> None:
    """Let an agent out of quarantine.

    An agent that has sent too much that had to be refused is shut out of a run (`rounds.quarantine_after`), as
    `coordinator devices` shows. Mend it first: its refusals are counted anew, and as many more shut it out again.

    \b
    Example:
      coordinator release room-3
    """
    with errors_in_one_line():
        run = open_run(runs_folder, run_id)
        inside = quarantined(record for record in run.records(("event",)) if isinstance(record, RunEvent))
        if agent_id not in inside:
            known = f"in quarantine: {', '.join(sorted(inside))}" if inside else "nobody is in quarantine"
            raise StorageError(f"{agent_id} is not in quarantine in run {run.run_id}; {known}")
        run.ask_release(agent_id)
        running = summarise(run).state == "running"
    when = "within a second" if running else f"when the run goes on: coordinator resume {run.run_id}"
    talk(json_output=False).print(f"{agent_id} is let back {when}", soft_wrap=True)
