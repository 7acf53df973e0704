"""`coordinator report` and `export`: make files from a run's folder."""

from pathlib import Path
from typing import Annotated

import typer

from coordinator import checkpoints
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
from schemas.errors import StorageError


def report(
    run_id: RunId = LATEST,
    output: Annotated[
        Path | None, typer.Option("--out", "-o", help="The HTML file; report.html in the run's folder otherwise.")
    ] = None,
    terminal: Annotated[
        bool, typer.Option("--terminal", "-t", help="Print it here, without pictures; write no file.")
    ] = False,
    runs_folder: RunsFolder = Path("runs"),
    json_output: Json = False,
) -> None:
    """Write a run's report with pictures.

    One HTML file with everything in it, and the pictures as PNG files in plots/ beside it; with --terminal the same
    in tables, here. Works while the run goes on, too.

    \b
    Example:
      coordinator report latest -o run.html
    """
    console = talk(json_output)
    if terminal and (json_output or output is not None):
        raise typer.BadParameter("--terminal goes neither with --out nor with --json (see `coordinator show --json`)")
    with errors_in_one_line():
        run = open_run(runs_folder, run_id)
        if terminal:
            from coordinator.report.facts import Facts
            from coordinator.report.terminal import show_report

            show_report(Facts.read(run), console)
            return
        with working(console, f"drawing the report of {run.run_id}"):
            from coordinator.report.page import write_report

            written = write_report(run, output)
    if json_output:
        print_document({"run_id": run.run_id, "html": str(written.html), "plots": [str(p) for p in written.plots]})
    else:
        console.print(f"report  {written.html}", soft_wrap=True)
        console.print(f"plots   {', '.join(path.name for path in written.plots)} in {written.plots_folder}")


def export(
    run_id: RunId = LATEST,
    round_number: Annotated[int | None, typer.Option("--round", min=1, help="Which round; the last otherwise.")] = None,
    output: Annotated[Path | None, typer.Option("--out", "-o", help="The file; RUN-round-N.safetensors here.")] = None,
    runs_folder: RunsFolder = Path("runs"),
    json_output: Json = False,
) -> None:
    """Write a round's model as a safetensors file.

    Plain float32 under the model's own tensor names, which any tool opens.

    \b
    Example:
      coordinator export latest --round 25 -o model.safetensors
    """
    with errors_in_one_line():
        run = open_run(runs_folder, run_id)
        saved = checkpoints.saved_rounds(run.checkpoints_path)
        if not saved:
            raise StorageError(f"run {run.run_id} has no checkpoint yet: its first round has not closed")
        chosen = round_number or saved[-1]
        if chosen not in saved:
            raise StorageError(f"run {run.run_id} has no checkpoint of round {chosen}: there are {_spans(saved)}")
        path = output or Path(f"{run.run_id}-round-{chosen:04d}.safetensors")
        checkpoints.export(run.checkpoints_path, chosen, run.run_id, path)
    size_bytes = path.stat().st_size
    if json_output:
        print_document({"run_id": run.run_id, "round": chosen, "path": str(path), "size_bytes": size_bytes})
    else:
        talk(json_output).print(f"round {chosen}: {path}, {size_bytes:,} bytes of float32 safetensors", soft_wrap=True)


def _spans(numbers: list[int]) -> str:
    """Ascending numbers in short: `3, 7-12`."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in spans)
