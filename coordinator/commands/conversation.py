"""How every command talks: to a person, or with --json to a machine; where it finds a run; how it ends.

With --json, stdout holds one JSON document and nothing else: progress, tables and errors go to stderr. Errors are one
line each.
"""

import contextlib
import difflib
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from coordinator.run_folder import RunFolder, list_runs
from schemas.errors import FederationError, StorageError

EXIT_ERROR = 1
EXIT_ABORTED = 3
EXIT_STOPPED = 4

EXIT_CODES = (
    "Exit codes: 0 done; 1 something is wrong, and stderr says what to do; 2 an option or argument is wrong; "
    "3 the run was aborted; 4 it was stopped and can be resumed."
)

LATEST = "latest"
RUNS_VARIABLE = "COORDINATOR_RUNS_FOLDER"
PIPE_WIDTH = 160
"""Columns where no terminal says how many there are: nothing is folded in logs and pipes."""

RunsFolder = Annotated[Path, typer.Option("--runs", help="The folder that holds all runs.", envvar=RUNS_VARIABLE)]
RunId = Annotated[str, typer.Argument(help="A run's id, as `coordinator runs` lists them, or `latest`.", metavar="RUN")]
CodecOption = Annotated[
    str | None,
    typer.Option(
        help="How updates and models travel, such as int8 or ternary:1/int4 (up/down); the strategy's own otherwise."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]


def talk(json_output: bool) -> Console:
    """Where to write for people: stdout, unless that belongs to a machine."""
    console = Console(stderr=json_output, highlight=False)
    if not console.is_terminal and not console.is_dumb_terminal:
        console.width = PIPE_WIDTH
    return console


def print_document(document: Any) -> None:
    """The one JSON document of --json."""
    typer.echo(json.dumps(document, indent=2 if sys.stdout.isatty() else None))


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM ends us as Ctrl-C does, in order, wherever the run's own loop has not taken over both."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Ends the command when it cannot go on: an error as one line, Ctrl-C with its own exit code."""
    try:
        yield
    except FederationError as error:
        typer.echo(f"coordinator: {error}", err=True)
        raise typer.Exit(EXIT_ERROR) from error
    except KeyboardInterrupt as interrupt:
        typer.echo("coordinator: stopped", err=True)
        raise typer.Exit(EXIT_STOPPED) from interrupt


@contextlib.contextmanager
def working(console: Console, what: str) -> Iterator[None]:
    """Says what takes time now: a spinner on a terminal, a line elsewhere."""
    if console.is_terminal:
        with console.status(what):
            yield
    else:
        console.print(f"{what} ...")
        yield


def open_run(runs: Path, run_id: str) -> RunFolder:
    """The run of this id, or the newest one for `latest`.

    Raises:
        StorageError: there is none; the text names those whose id is similar.
    """
    if run_id == LATEST:
        newest = next(iter(list_runs(runs)), None)
        if newest is None:
            raise StorageError(f"there is no run in {runs}: start one, or name the folder that holds yours with --runs")
        return newest
    try:
        return RunFolder.open(runs, run_id)
    except FederationError as error:
        known = [run.run_id for run in list_runs(runs)]
        near = [name for name in known if name.startswith(run_id)] or difflib.get_close_matches(run_id, known)
        if run_id in known or not near:
            raise
        raise StorageError(f"there is no run {run_id!r} in {runs}: did you mean {' or '.join(near[:3])}?") from error


def runs_option(runs: Path) -> str:
    """What to add to a suggested command so that it finds the same runs."""
    return "" if str(runs) in ("runs", os.environ.get(RUNS_VARIABLE)) else f" --runs {runs}"


def program() -> str:
    """How a person calls us again: by name where the shell finds it, by path where it does not, as in a checkout."""
    script = Path(sys.argv[0])
    if shutil.which("coordinator") or script.name != "coordinator":
        return "coordinator"
    return str(script.relative_to(Path.cwd())) if script.is_relative_to(Path.cwd()) else str(script)
