"""`edge-agent`: what runs on a device in a room. Talks to a person; everything else is elsewhere."""

import dataclasses
import json
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from edge_agent import device_lock
from edge_agent.config import AgentConfig
from schemas.errors import FederationError
from transport.settings import load_settings

EXIT_ERROR = 1
EXIT_TAKEN_OVER = 3
"""Another process connected under this agent's id: a service manager must not start this one again."""

RUN_EXIT_CODES = (
    "Exit codes: 0 told to stop; 1 something is wrong, and stderr says what to do; 2 an option or argument is wrong; "
    "3 another process runs under this agent's id, so this one must not be started again."
)
DOCTOR_EXIT_CODES = "Exit codes: 0 the agent can work; 1 there is a problem; 2 an option or argument is wrong."

app = typer.Typer(
    help="Trains on this room's data and sends only weights. Nothing that was recorded ever leaves the device.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)

ConfigFile = Annotated[Path, typer.Argument(help="The agent's TOML file; see examples/agent.toml.", metavar="CONFIG")]


@app.callback()
def _program() -> None:
    """Group the commands, so that `edge-agent run` keeps its name."""


@app.command(epilog=RUN_EXIT_CODES)
def run(
    config_file: ConfigFile,
    json_output: Annotated[bool, typer.Option("--json", help="At the end, print one JSON object on stdout.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more in the log.")] = False,
) -> None:
    """Take part in rounds until told to stop.

    Connects for ever, trains when a round is announced, keeps its update on disk until the round is closed. SIGTERM
    and Ctrl-C stop it in order.

    \b
    Example:
      edge-agent run examples/agent.toml
    """
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    from edge_agent.run import run as run_agent

    try:
        config = load_settings(AgentConfig, config_file)
        with device_lock.hold(config.state_folder):
            result = run_agent(config)
    except FederationError as error:
        typer.echo(f"edge-agent: {error}", err=True)
        raise typer.Exit(EXIT_ERROR) from error
    if json_output:
        typer.echo(json.dumps(dataclasses.asdict(result)))
    if result.taken_over:
        raise typer.Exit(EXIT_TAKEN_OVER)


@app.command(epilog=DOCTOR_EXIT_CODES)
def doctor(
    config_file: ConfigFile,
    model: Annotated[str | None, typer.Option(help="The model that runs train, tried on the room's data.")] = None,
    ask_coordinator: Annotated[
        bool, typer.Option("--ask-coordinator", help="Also make the coordinator answer; a round may count on us then.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Check this device and say what to do about what is wrong.

    Looks at the configuration, the room's data, state folder, disk, memory, clock, PyTorch, and the way to the broker:
    TLS, login and rights. Changes nothing; tells the broker that this agent is offline, which is why it does not log
    in while the agent runs. On the agent's own device, that is: elsewhere it may throw the running agent out.

    \b
    Example:
      edge-agent doctor examples/agent.toml --model cnn
    """
    from edge_agent.doctor.checkup import examine
    from edge_agent.doctor.table import show_findings

    findings = show_findings(
        lambda announce: examine(config_file, model, ask_coordinator=ask_coordinator, announce=announce),
        quiet=json_output,
    )
    problems = [finding for finding in findings if finding.status == "problem"]
    if json_output:
        typer.echo(json.dumps({"ok": not problems, "findings": [dataclasses.asdict(f) for f in findings]}))
    if problems:
        raise typer.Exit(EXIT_ERROR)


def main() -> None:
    """Entry point of the `edge-agent` command."""
    app()


if __name__ == "__main__":
    main()
