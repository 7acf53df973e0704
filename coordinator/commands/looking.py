"""`coordinator runs`, `show` and `devices`: look at runs while they go on and afterwards, from their folders alone."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from coordinator import summary, tables
from coordinator.commands.conversation import (
    LATEST,
    Json,
    RunId,
    RunsFolder,
    errors_in_one_line,
    open_run,
    print_document,
    runs_option,
    talk,
)
from coordinator.run_folder import RunFolder, list_runs
from coordinator.run_summary import RunSummary, summarise
from schemas.records import RunEvent

SHOWN_ROUNDS = 30


def runs(runs_folder: RunsFolder = Path("runs"), json_output: Json = False) -> None:
    """List all runs and how far they are.

    Newest first, with how to go on with those that were stopped.

    \b
    Example:
      coordinator runs --runs /srv/federation/runs
    """
    with errors_in_one_line():
        found = [summarise(run) for run in list_runs(runs_folder)]
    if json_output:
        print_document({"runs": [_as_json(run) for run in found]})
    elif found:
        console = talk(json_output)
        console.print(tables.runs_table(found))
        if any(run.state == "stopped" for run in found):
            console.print(f"a stopped one goes on with  coordinator resume RUN{runs_option(runs_folder)}")
    else:
        talk(json_output).print(f"there is no run in {runs_folder}: start one with `coordinator demo`")


def show(
    run_id: RunId = LATEST,
    all_rounds: Annotated[bool, typer.Option("--all", help=f"More than the last {SHOWN_ROUNDS} rounds.")] = False,
    runs_folder: RunsFolder = Path("runs"),
    json_output: Json = False,
) -> None:
    """Show a run, round by round.

    Also what was refused and why, and which device holds the others up. Works while the run goes on, too.

    \b
    Example:
      coordinator show 20261123-114500-kqzv
    """
    with errors_in_one_line():
        run = open_run(runs_folder, run_id)
        state, records = summarise(run), run.records()
    rounds = summary.rounds_of(records)
    refusals = summary.refusals(rounds)
    straggler = summary.find_straggler(summary.latencies_by_round(records))
    if json_output:
        print_document(
            _as_json(state)
            | {"totals": asdict(summary.total(records)), "refusals": refusals}
            | {"straggler": asdict(straggler) if straggler else None}
            | {"rounds": [record.model_dump(mode="json") for record in rounds]}
        )
        return
    console = talk(json_output)
    for line in _heading(run, state, summary.events_of(records)):
        console.print(line, soft_wrap=True)
    hidden = 0 if all_rounds else max(0, len(rounds) - SHOWN_ROUNDS)
    if hidden:
        console.print(f"({hidden} earlier rounds: --all)")
    if rounds:
        console.print(tables.rounds_table(rounds[hidden:]))
        console.print(tables.straggler_sentence(straggler, len(rounds)), soft_wrap=True)
    if refusals:
        console.print(tables.refusals_table(refusals))


def devices(run_id: RunId = LATEST, runs_folder: RunsFolder = Path("runs"), json_output: Json = False) -> None:
    """Show a run's devices: time, bytes, refusals.

    Seconds are means per round; `comm` is downloading and uploading, `latency` announcement to counted update. MB are
    whole MQTT packets over the whole run, both ways; --json tells them apart.

    \b
    Example:
      coordinator devices latest
    """
    with errors_in_one_line():
        run = open_run(runs_folder, run_id)
        state, records = summarise(run), run.records()
    found = summary.summarise_devices(records)
    straggler = summary.find_straggler(summary.latencies_by_round(records))
    if json_output:
        print_document(
            {"run_id": run.run_id, "state": state.state}
            | {"devices": [asdict(device) for device in found]}
            | {"straggler": asdict(straggler) if straggler else None}
        )
        return
    console = talk(json_output)
    if not found:
        console.print(f"no device has been seen in run {run.run_id}")
        return
    console.print(tables.devices_table(found, time.time() if state.state == "running" else None))
    console.print(tables.DEVICES_CAPTION, style="dim", soft_wrap=True)
    console.print(tables.straggler_sentence(straggler, state.rounds_closed), soft_wrap=True)


def _heading(run: RunFolder, state: RunSummary, events: list[RunEvent]) -> list[str]:
    training, rounds = run.config.get("training", {}), run.config.get("rounds", {})
    data = run.config.get("data", {})
    learning_rate = run.config.get("plan", training).get("learning_rate")
    words = tables.state_in_words(state, runs_option(run.path.parent))
    return [
        f"[bold]{run.run_id}[/]  {words}  (since {tables.moment(state.started_at)})",
        f"{training.get('model')} on {data.get('dataset')}, E={training.get('local_batches')} batches of "
        f"{training.get('batch_size')}, learning rate {learning_rate}, {training.get('strategy')}, "
        f"at most {rounds.get('count')} rounds",
        f"last: {events[-1].name} {events[-1].detail}".rstrip() if events else "nothing has happened yet",
    ]


def _as_json(run: RunSummary) -> dict[str, Any]:
    return asdict(run) | {"path": str(run.path)}
