"""`coordinator`: the table of contents of its commands, which are in `coordinator/commands/`."""

import logging
import sys
from typing import Annotated

import typer

from coordinator.commands import (
    answering,
    bench,
    breaking,
    comparing,
    demonstrating,
    dividing,
    files,
    looking,
    metrics,
    releasing,
    running,
    showing,
    simulating,
    starting,
)
from coordinator.commands.conversation import EXIT_CODES

app = typer.Typer(
    help="Opens rounds, averages the updates of the agents, keeps the record. Start with `coordinator demo`.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
metrics_app = typer.Typer(
    help="Ship what runs have recorded to InfluxDB, and check that it can be shipped.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def _program(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more in the log on stderr.")] = False,
) -> None:
    level = logging.INFO if verbose else logging.ERROR
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)


app.command("demo", epilog=EXIT_CODES)(demonstrating.demo)
app.command("run", epilog=EXIT_CODES)(running.run_command)
app.command("resume", epilog=EXIT_CODES)(running.resume_command)
app.command("start", epilog=EXIT_CODES)(starting.start_command)
app.command("stop", epilog=EXIT_CODES)(starting.stop_command)
app.command("simulate")(simulating.simulate)
app.command("chaos")(breaking.chaos)
app.command("runs")(looking.runs)
app.command("show")(looking.show)
app.command("devices")(looking.devices)
app.command("web")(showing.web)
app.command("release")(releasing.release)
app.command("report")(files.report)
app.command("compare")(comparing.compare)
app.command("export")(files.export)
app.command("partition")(dividing.partition_command)
metrics_app.command("check")(metrics.check_command)
metrics_app.command("push")(metrics.push_command)
app.add_typer(metrics_app, name="metrics")
app.add_typer(answering.answers_app, name="answers")
app.add_typer(bench.bench_app, name="bench")


def main() -> None:
    """Entry point of the `coordinator` command."""
    app()


if __name__ == "__main__":
    main()
