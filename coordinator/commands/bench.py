"""`coordinator bench NAME`: measures the system and its parts; `docs/benchmarks.md` shows what came out."""

import shlex
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from coordinator.commands.conversation import Json, errors_in_one_line, print_document, talk
from schemas.errors import ConfigError

bench_app = typer.Typer(
    help="Measure: each benchmark prints a table and writes JSON and a picture to a folder that it names.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Quick = Annotated[bool, typer.Option("--quick", help="A small version: to see that it works, not to publish.")]
Out = Annotated[Path, typer.Option("--out", help="A new folder for the result is made in here.")]
OUT = Path("runs/bench")


@bench_app.command()
def overhead(
    agents: Annotated[str, typer.Option(help="Numbers of agents, with commas.")] = "",
    rounds: Annotated[int | None, typer.Option(min=1, help="Of each row; fewer with more agents otherwise.")] = None,
    model: Annotated[str, typer.Option(help="Whose weights travel.")] = "cnn",
    quick: Quick = False,
    out: Out = OUT,
    json_output: Json = False,
) -> None:
    """Echo rounds on a real broker beside the same messages between bare clients.

    Example: coordinator bench overhead --agents 5,50 --json
    """
    counts = _numbers(agents, "--agents") or ((5, 50) if quick else (5, 50, 200, 1000))
    _measure("overhead", {"agents": counts, "rounds": rounds, "model": model, "quick": quick}, out, json_output)


def _measure(name: str, options: dict[str, Any], out: Path, json_output: bool) -> None:
    """Run one benchmark and show what came of it."""
    from benchmarks import output
    from benchmarks.machine import describe_machine, in_a_sentence

    benchmark = import_module(f"benchmarks.{name}")
    console = talk(json_output)
    with errors_in_one_line():
        machine = describe_machine()
        folder = output.new_folder(out, name)
        console.print(in_a_sentence(machine), soft_wrap=True)
        begin_s = time.monotonic()

        def say(what: str) -> None:
            console.print(f"[{time.monotonic() - begin_s:6.1f} s] {what}", soft_wrap=True, markup=False)

        result = benchmark.run(benchmark.Settings(**options), folder, say)
        command = shlex.join(["coordinator", *sys.argv[1:]])
        content = output.document(name, command, machine, result, time.monotonic() - begin_s)
        picture = output.picture_of(result, benchmark.draw, benchmark.HEIGHT_IN)
        written = output.write(folder, content, picture)
    if json_output:
        print_document(content | {"folder": str(written.folder), "picture": str(written.picture)})
        return
    console.print(output.as_table(result))
    for note in result.notes:
        console.print(note, style="dim", soft_wrap=True)
    for key, value in result.summary.items():
        console.print(f"{key}: {value}", soft_wrap=True, markup=False)
    console.print(f"written to {written.folder}: {written.json_file.name}, {written.picture.name}", soft_wrap=True)


def _numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        with errors_in_one_line():
            raise ConfigError(f"{option} {text}: expected whole numbers with commas, such as 5,50") from error
    return ()
