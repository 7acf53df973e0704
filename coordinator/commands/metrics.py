"""`coordinator metrics`: ship what a run has recorded to a server, afterwards or again."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from coordinator.commands.conversation import (
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


def _settings(run: RunFolder, config_file: Path | None) -> InfluxSettings:
    config = load_settings(RunConfig, config_file) if config_file is not None else saved_config(run)
    if config.influx is None:
        where = config_file or run.path / "config.json"
        raise ConfigError(
            f"{where} has no section [influx] that says where metrics go: name a file that has with --config"
        )
    return config.influx
