"""`coordinator`: start, resume and look at runs. Talks to a person or, with --json, to a machine."""

import json
import logging
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from schemas.errors import FederationError

EXIT_ERROR = 1
EXIT_ABORTED = 2

app = typer.Typer(
    help="Opens rounds, averages the updates of the agents, keeps the record. Start with `coordinator demo`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

RunsFolder = Annotated[Path, typer.Option("--runs", help="The folder that holds all runs.")]
RunId = Annotated[str, typer.Argument(help="A run's id, as `coordinator runs` lists them.", metavar="RUN")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]


class PartitionScheme(StrEnum):
    """How examples are divided among devices."""

    IID = "iid"
    DIGIT_PAIRS = "digit-pairs"
    DIRICHLET = "dirichlet"


def _console(json_output: bool) -> Console:
    return Console(stderr=json_output)


def _fail(error: FederationError) -> NoReturn:
    typer.echo(f"coordinator: {error}", err=True)
    raise typer.Exit(EXIT_ERROR)


@app.callback()
def _program(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more in the log on stderr.")] = False,
) -> None:
    level = logging.INFO if verbose else logging.ERROR
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)


@app.command()
def demo(
    rounds: Annotated[int, typer.Option(min=1, help="At most so many rounds.")] = 25,
    target_accuracy: Annotated[
        float | None, typer.Option(min=0, max=1, help="End at the round that reaches this test accuracy.")
    ] = None,
    partition: Annotated[
        PartitionScheme, typer.Option(help="How the digits are divided among the devices.")
    ] = PartitionScheme.DIGIT_PAIRS,
    local_batches: Annotated[int, typer.Option(min=1, help="E: batches that each device trains per round.")] = 10,
    batch_size: Annotated[int, typer.Option(min=1, help="B: examples of a batch.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="Step size of local training.")] = 0.05,
    strategy: Annotated[str, typer.Option(help="How updates become the next model.")] = "fedavg",
    codec: Annotated[str, typer.Option(help="How weights are encoded on the wire.")] = "fp32",
    model: Annotated[str, typer.Option(help="cnn, mlp or lstm.")] = "cnn",
    devices: Annotated[int, typer.Option(min=1, max=64, help="Agent processes.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Everything random derives from it.")] = 1,
    data: Annotated[Path | None, typer.Option(help="Folder of MNIST; looked for when not given.")] = None,
    runs_folder: RunsFolder = Path("runs"),
    json_output: Json = False,
) -> None:
    """The main job on this machine: a private broker, five agent processes, non-IID MNIST, a report.

    Everything runs as it would in a building, with users, passwords and topic rights, only on loopback. Ends with
    the result beside that of the reference study.
    """
    from coordinator.demo import DemoSettings, as_dict, load_demo_data, run_demo
    from coordinator.display import RunDisplay

    console = _console(json_output)
    settings = DemoSettings(
        runs_folder=runs_folder,
        devices=devices,
        rounds=rounds,
        target_accuracy=target_accuracy,
        partition=partition.value,
        local_batches=local_batches,
        batch_size=batch_size,
        learning_rate=learning_rate,
        model=model,
        strategy=strategy,
        codec=codec,
        seed=seed,
        data=data,
    )
    try:
        with console.status("loading the data"):
            dataset, name = load_demo_data(settings)
        if name.startswith("digits"):
            console.rule("[bold red]NO COPY OF MNIST AND NO NETWORK: using scikit-learn's 8x8 digits, upscaled[/]")
        console.print(
            f"{devices} agent processes, {name} by {partition.value}, E={local_batches} batches of {batch_size}, "
            f"strategy {strategy}, codec {codec}"
        )
        result = run_demo(settings, dataset, name, lambda config: RunDisplay(config.rounds.count, console))
    except FederationError as error:
        _fail(error)
    if json_output:
        typer.echo(json.dumps(as_dict(result)))
    else:
        console.print(_demo_table(as_dict(result)))
    if result.outcome != "finished":
        raise typer.Exit(EXIT_ABORTED)


def _demo_table(result: dict[str, Any]) -> Table:
    from coordinator.study import study_result

    study = study_result(result["partition"])
    table = Table(title="Result beside the reference study (five Raspberry Pi 4s, MNIST, the same CNN)")
    for column in ("", "this run", "study"):
        table.add_column(column, justify="left" if not column else "right")
    total_bytes = sum(result["packet_bytes_per_device"].values())
    best = result["final_accuracy"]
    table.add_row("rounds", str(result["rounds"]), str(study.rounds) if study else "-")
    table.add_row("local batches E", str(result["local_batches"]), str(study.local_batches) if study else "-")
    table.add_row(
        "test accuracy", f"{best:.2%}" if best is not None else "-", f"{study.accuracy:.0%}" if study else "-"
    )
    table.add_row(
        "bytes per device",
        f"{total_bytes / 1e6:.2f} MB",
        f"{study.bytes_per_device / 1e6:.0f} MB" if study and study.bytes_per_device else "-",
    )
    table.add_row("seconds, all in all", f"{result['wall_s']:.1f}", "-")
    table.add_row("training seconds per device", f"{result['train_s_per_device']:.1f}", "-")
    return table


def main() -> None:
    """Entry point of the `coordinator` command."""
    app()


if __name__ == "__main__":
    main()
