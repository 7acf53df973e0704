"""`coordinator answers`: the questions that people ask of runs, each in one command."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from coordinator import answers, tables
from coordinator.commands.conversation import (
    LATEST,
    Json,
    RunId,
    RunsFolder,
    errors_in_one_line,
    open_run,
    print_document,
    talk,
)
from coordinator.run_folder import list_runs
from coordinator.summary import Record

answers_app = typer.Typer(
    help="Ready answers: who holds up a run, megabytes this month, pace, refusals, progress.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@answers_app.command("straggler")
def straggler_command(
    run_id: RunId = LATEST, runs_folder: RunsFolder = Path("runs"), json_output: Json = False
) -> None:
    """Which device holds up a run, and since when.

    \b
    Example:
      coordinator answers straggler latest
    """
    with errors_in_one_line():
        run = open_run(runs_folder, run_id)
        records = run.records()
    found = answers.straggler(records)
    if json_output:
        flat = asdict(found.straggler) | {"since_at": found.since_at} if found else None
        print_document({"run_id": run.run_id, "straggler": flat})
        return
    rounds = sum(record.type == "round" for record in records)
    line = tables.straggler_sentence(found.straggler if found else None, rounds)
    since = f" (since {tables.moment(found.since_at)})" if found and found.since_at else ""
    talk(json_output).print(f"{run.run_id}: {line}{since}", soft_wrap=True)


@answers_app.command("megabytes")
def megabytes_command(
    month: Annotated[str | None, typer.Option(help="Such as 2026-11; this month otherwise.", metavar="YYYY-MM")] = None,
    runs_folder: RunsFolder = Path("runs"),
    json_output: Json = False,
) -> None:
    """Megabytes per device in a month.

    Whole MQTT packets, as the devices counted them, over all runs in the folder; months are UTC.

    \b
    Example:
      coordinator answers megabytes --month 2026-11
    """
    chosen = month or time.strftime("%Y-%m", time.gmtime())
    with errors_in_one_line():
        start_s, end_s = answers.month_bounds(chosen)
        found = answers.megabytes(_all_runs(runs_folder), start_s, end_s)
    if json_output:
        print_document({"month": chosen, "devices": [asdict(device) for device in found]})
    elif found:
        talk(json_output).print(tables.megabytes_table(found))
    else:
        talk(json_output).print(f"no device has reported a round in {chosen} in the runs in {runs_folder}")


@answers_app.command("pace")
def pace_command(runs_folder: RunsFolder = Path("runs"), json_output: Json = False) -> None:
    """How long a round takes now, and how long last week.

    Now is the last 24 hours, last week the seven days before those; over all runs in the folder.

    \b
    Example:
      coordinator answers pace
    """
    with errors_in_one_line():
        now, before = answers.pace(_all_runs(runs_folder), time.time())
    if json_output:
        print_document({"now": asdict(now), "last_week": asdict(before)})
        return
    for words in tables.pace_sentences(now, before):
        talk(json_output).print(words, soft_wrap=True)


@answers_app.command("refusals")
def refusals_command(run_id: RunId = LATEST, runs_folder: RunsFolder = Path("runs"), json_output: Json = False) -> None:
    """Which updates were refused, and why.

    Other refused messages as well; docs/topics.md explains each reason.

    \b
    Example:
      coordinator answers refusals latest
    """
    with errors_in_one_line():
        run = open_run(runs_folder, run_id)
        found = answers.refusals(run.records(("round",)))
    if json_output:
        print_document({"run_id": run.run_id, "refusals": [asdict(refusal) for refusal in found]})
    elif found:
        talk(json_output).print(tables.refusal_rows(found))
    else:
        talk(json_output).print(f"{run.run_id}: nothing was refused", soft_wrap=True)


@answers_app.command("progress")
def progress_command(run_id: RunId = LATEST, runs_folder: RunsFolder = Path("runs"), json_output: Json = False) -> None:
    """How far a run is from its target.

    \b
    Example:
      coordinator answers progress latest
    """
    with errors_in_one_line():
        run = open_run(runs_folder, run_id)
        found = answers.progress(run.records(("round",)))
    if json_output:
        print_document({"run_id": run.run_id, "progress": asdict(found) if found else None})
    else:
        talk(json_output).print(f"{run.run_id}: {tables.progress_sentence(found)}", soft_wrap=True)


def _all_runs(runs_folder: Path) -> Iterator[list[Record]]:
    return (run.records() for run in list_runs(runs_folder))
