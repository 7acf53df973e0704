"""`coordinator metrics`: is the server ready, and ship what a run has recorded, afterwards or again."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from coordinator import influx_check
from coordinator.commands.conversation import (
    EXIT_ERROR,
    LATEST,
    Json,
    RunId,
    RunsFolder,
    errors_in_one_line,
    open_run,
    print_document,
    talk,
    working,
)
from coordinator.config import RunConfig
from coordinator.influx import InfluxSettings, InfluxSink
from coordinator.run import saved_config
from coordinator.run_folder import RunFolder
from coordinator.shipping import push
from schemas.errors import ConfigError
from transport.settings import load_settings


def push_command(
    run_id: RunId = LATEST,
    config_file: Annotated[
        Path | None,
        typer.Option("--config", help="A file with [influx], when the run was started without it.", metavar="CONFIG"),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="Also what was acknowledged before, to fill a server that lost it.")
    ] = False,
    runs_folder: RunsFolder = Path("runs"),
    json_output: Json = False,
) -> None:
    """Ship a run's metrics to InfluxDB.

    Sends all that the server has not acknowledged yet; harmless to repeat.

    \b
    Example:
      coordinator metrics push latest --config run.toml
    """
    console = talk(json_output)
    with errors_in_one_line():
        run = open_run(runs_folder, run_id)
        sink = InfluxSink(_settings(run, config_file))
        try:
            with working(console, f"shipping the metrics of {run.run_id} to {sink.target}"):
                status = push(run, sink, everything=everything)
        finally:
            sink.close()
    if json_output:
        print_document({"run_id": run.run_id, "target": sink.target} | asdict(status))
    elif status.points_shipped:
        console.print(f"{status.points_shipped} points shipped to {sink.target}", soft_wrap=True)
    else:
        console.print(f"{sink.target} has everything of {run.run_id} already", soft_wrap=True)


def check_command(
    what: Annotated[
        str, typer.Argument(help="A run's configuration (a .toml file), a run's id, or `latest`.", metavar="CONFIG|RUN")
    ] = LATEST,
    runs_folder: RunsFolder = Path("runs"),
    json_output: Json = False,
) -> None:
    """Say whether metrics can be shipped.

    Does the server answer, does the bucket exist, may these credentials write to it, and what to do if not. Stores
    nothing. Ends with 1 when something is wrong.

    \b
    Example:
      coordinator metrics check run.toml
    """
    with errors_in_one_line():
        sink = InfluxSink(_settings_of(what, runs_folder))
        try:
            checks = influx_check.check(sink)
        finally:
            sink.close()
    well = all(check.ok for check in checks)
    if json_output:
        print_document({"target": sink.target, "ok": well, "checks": [asdict(check) for check in checks]})
    else:
        console = talk(json_output)
        for check in checks:
            verdict = "[green]ok[/]" if check.ok else "[red]no[/]"
            console.print(f"{verdict}  {check.name}: {escape(check.detail)}", soft_wrap=True)
    if not well:
        raise typer.Exit(EXIT_ERROR)


def _settings_of(what: str, runs_folder: Path) -> InfluxSettings:
    if what.endswith(".toml"):
        return _section(load_settings(RunConfig, Path(what)), Path(what))
    return _settings(open_run(runs_folder, what), None)


def _settings(run: RunFolder, config_file: Path | None) -> InfluxSettings:
    if config_file is not None:
        return _section(load_settings(RunConfig, config_file), config_file)
    return _section(saved_config(run), run.path / "config.json")


def _section(config: RunConfig, where: Path) -> InfluxSettings:
    if config.influx is None:
        raise ConfigError(
            f"{where} has no section [influx] that says where metrics go: name a file that has one, "
            "as `metrics check FILE` or `metrics push --config FILE`"
        )
    return config.influx
