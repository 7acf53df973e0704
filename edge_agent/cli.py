"""`edge-agent`: what runs on a device in a room. Talks to a person; everything else is elsewhere."""

import dataclasses
import json
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from edge_agent.config import AgentConfig
from schemas.errors import FederationError
from transport.settings import load_settings

EXIT_ERROR = 1
EXIT_TAKEN_OVER = 3
"""Another process connected under this agent's id: a service manager must not start this one again."""

app = typer.Typer(
    help="Trains on this room's data and sends only weights. Nothing that was recorded ever leaves the device.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

ConfigFile = Annotated[Path, typer.Argument(help="The agent's TOML file; see examples/agent.toml.", metavar="CONFIG")]


@app.callback()
def _program() -> None:
    """Group the commands, so that `edge-agent run` keeps its name."""


@app.command()
def run(
    config_file: ConfigFile,
    json_output: Annotated[bool, typer.Option("--json", help="At the end, print one JSON object on stdout.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more in the log.")] = False,
) -> None:
    """Take part in rounds until told to stop (SIGTERM or Ctrl-C).

    Connects for ever, trains when a round is announced, keeps its update on disk until the round is closed.
    """
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    from edge_agent.run import run as run_agent

    try:
        result = run_agent(load_settings(AgentConfig, config_file))
    except FederationError as error:
        typer.echo(f"edge-agent: {error}", err=True)
        raise typer.Exit(EXIT_ERROR) from error
    if json_output:
        typer.echo(json.dumps(dataclasses.asdict(result)))
    if result.taken_over:
        raise typer.Exit(EXIT_TAKEN_OVER)


def main() -> None:
    """Entry point of the `edge-agent` command."""
    app()


if __name__ == "__main__":
    main()
