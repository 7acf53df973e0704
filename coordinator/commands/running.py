"""`coordinator run` and `resume`: drive a run to its end while a person, or a service manager, watches."""

import contextlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from coordinator import summary
from coordinator.commands.conversation import (
    EXIT_ABORTED,
    EXIT_STOPPED,
    LATEST,
    CodecOption,
    Json,
    RunId,
    RunsFolder,
    errors_in_one_line,
    open_run,
    print_document,
    runs_option,
    stoppable,
    talk,
)
from coordinator.commands.showing import shown
from coordinator.commands.training_options import NumbersOption, numbers_by_name
from coordinator.config import RunConfig
from coordinator.display import RunDisplay
from coordinator.influx import InfluxSink
from coordinator.observers import MetricsObserver, Observers
from coordinator.run import RunResult, resume, saved_config, start
from coordinator.run_folder import RunFolder, new_run_id
from coordinator.run_summary import summarise
from coordinator.service import Observer
from transport.settings import load_settings
from transport.systemd import Notifier

Web = Annotated[bool, typer.Option("--web", help="Show the run in a browser too, while it goes on; see [web].")]
ConfigFile = Annotated[Path, typer.Argument(help="The run's TOML file; see examples/run.toml.", metavar="CONFIG")]


def run_command(
    config_file: ConfigFile,
    rounds: Annotated[int | None, typer.Option(help="At most so many rounds.")] = None,
    target_accuracy: Annotated[float | None, typer.Option(help="End at the round that reaches it, 0 to 1.")] = None,
    strategy: Annotated[str | None, typer.Option(help="How updates become the next model.")] = None,
    option: NumbersOption = None,
    codec: CodecOption = None,
    aggregation: Annotated[
        str | None, typer.Option(help="mean, or a rule that a wrong or malicious device cannot ruin, such as median.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="cnn, mlp, lstm, or module:callable.")] = None,
    local_batches: Annotated[int | None, typer.Option(help="E: batches that each device trains per round.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="B: examples of a batch.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Step size of local training.")] = None,
    seed: Annotated[int | None, typer.Option(help="Everything random derives from it.")] = None,
    min_agents: Annotated[int | None, typer.Option(help="Devices that the first round waits for.")] = None,
    min_updates: Annotated[int | None, typer.Option(help="Updates without which no round counts.")] = None,
    deadline_s: Annotated[float | None, typer.Option("--deadline", help="Seconds until a round closes.")] = None,
    run_id: Annotated[str | None, typer.Option(help="The run's id; made from the date otherwise.")] = None,
    runs_folder: Annotated[Path | None, typer.Option("--runs", help="The folder that holds all runs.")] = None,
    web: Web = False,
    json_output: Json = False,
) -> None:
    """Start a run and drive it to its end.

    Options win over the environment (COORDINATOR_BROKER__HOST and the like), and that over the file. Waits for the
    broker and for the devices as long as it takes; Ctrl-C stops the run so that it can be resumed.

    \b
    Example:
      coordinator run examples/run.toml --rounds 50 --target-accuracy 0.95
    """
    console = talk(json_output)
    with errors_in_one_line(), stoppable():
        options = {
            "rounds.count": rounds,
            "rounds.target_accuracy": target_accuracy,
            "rounds.min_agents": min_agents,
            "rounds.min_updates": min_updates,
            "rounds.deadline_s": deadline_s,
            "training.strategy": strategy,
            "training.options": numbers_by_name(option or ()) or None,
            "training.codec": codec,
            "aggregation.rule": aggregation,
            "training.model": model,
            "training.local_batches": local_batches,
            "training.batch_size": batch_size,
            "training.learning_rate": learning_rate,
            "training.seed": seed,
            "run_id": run_id,
            "runs_folder": runs_folder,
        }
        config = load_settings(RunConfig, config_file, options)
        if config.run_id is None:
            config = config.model_copy(update={"run_id": new_run_id()})
        with shown(config, web):
            result = _watched(config, console, lambda observer: start(config, observer))
    _conclude(config, result, console, json_output)


def resume_command(
    run_id: RunId = LATEST, runs_folder: RunsFolder = Path("runs"), web: Web = False, json_output: Json = False
) -> None:
    """Go on with a run that was stopped or killed.

    The round that was open is opened again. The run keeps the configuration that it was started with:
    config.json in its folder.

    \b
    Example:
      coordinator resume 20261123-114500-kqzv
    """
    console = talk(json_output)
    with errors_in_one_line(), stoppable():
        folder = open_run(runs_folder, run_id)
        config = saved_config(folder).model_copy(update={"run_id": folder.run_id, "runs_folder": runs_folder})
        if summarise(folder).state == "finished":
            console.print(f"run {folder.run_id} has finished already: there is nothing to resume")
            Notifier().send("READY=1")  # otherwise a unit that ends at once counts as failed
            result = RunResult(folder.run_id, "finished", "it had finished before", folder.path, _last_sha256(folder))
        else:
            with shown(config, web):
                result = _watched(config, console, lambda observer: resume(runs_folder, folder.run_id, observer))
    _conclude(config, result, console, json_output)


def _watched(config: RunConfig, console: Console, drive: Callable[[Observer], RunResult]) -> RunResult:
    """Drive a run with a display and, where a server is configured, with its metrics shipped."""
    with contextlib.ExitStack() as stack:
        watching: list[Observer] = []
        if config.influx is not None:
            sink = InfluxSink(config.influx)
            metrics = MetricsObserver(
                config.runs_folder,
                sink,
                lambda line: console.print(line, soft_wrap=True),
                runs_option(config.runs_folder),
            )
            stack.callback(metrics.close)
            watching.append(metrics)
        console.print(f"run {config.run_id}, in {config.runs_folder}", soft_wrap=True)
        display = stack.enter_context(RunDisplay(config.rounds.count, console, config.rounds.min_agents))
        return drive(Observers([display, *watching]))


def _conclude(config: RunConfig, result: RunResult, console: Console, json_output: bool) -> None:
    """Say how it ended; the exit code says so, too."""
    if json_output:
        records = RunFolder.open(result.folder.parent, result.run_id).records()
        rounds = summary.rounds_of(records)
        print_document(
            asdict(result)
            | {"folder": str(result.folder), "rounds": len(rounds)}
            | {"accuracy_by_round": [record.accuracy for record in rounds]}
            | {"rounds_to_target": summary.rounds_to_target(rounds, config.rounds.target_accuracy)}
            | {"totals": asdict(summary.total(records))}
        )
    where = runs_option(config.runs_folder)
    if result.outcome == "stopped":
        console.print(f"[yellow]stopped[/]: resume with  coordinator resume {result.run_id}{where}", soft_wrap=True)
        raise typer.Exit(EXIT_STOPPED)
    console.print(f"look at it with  coordinator report {result.run_id}{where}", soft_wrap=True)
    if result.outcome == "aborted":
        raise typer.Exit(EXIT_ABORTED)


def _last_sha256(folder: RunFolder) -> str:
    rounds = summary.rounds_of(folder.records(("round",)))
    return rounds[-1].model_sha256 if rounds else ""
