"""`coordinator compare`: several runs side by side, on the terminal and as a page."""

from pathlib import Path
from typing import Annotated

import typer

from coordinator import tables
from coordinator.commands.conversation import (
    Json,
    RunsFolder,
    errors_in_one_line,
    open_run,
    print_document,
    talk,
    working,
)
from schemas.errors import ConfigError


def compare(
    run_ids: Annotated[
        list[str], typer.Argument(help="Two or more runs; `latest` is the newest.", metavar="RUN RUN...")
    ],
    output: Annotated[Path | None, typer.Option("--out", "-o", help="Also an HTML file with pictures.")] = None,
    runs_folder: RunsFolder = Path("runs"),
    json_output: Json = False,
) -> None:
    """Lay runs side by side.

    What came of each, what was set differently, and up to which round the models are the same, bit for bit.

    \b
    Example:
      coordinator compare 20261123-114500-kqzv latest -o compare.html
    """
    console = talk(json_output)
    with errors_in_one_line():
        from coordinator.report import comparison as comparing

        runs = [open_run(runs_folder, run_id) for run_id in run_ids]
        if len({run.run_id for run in runs}) < 2:
            raise ConfigError("name at least two different runs: `coordinator runs` lists them")
        found = comparing.compare(runs)
        if output is not None:
            with working(console, f"drawing {output}"):
                comparing.write_comparison(found, output)
    if json_output:
        print_document(comparing.as_document(found) | {"html": str(output) if output else None})
        return
    names = [run.run_id for run in runs]
    console.print(tables.comparison_table(comparing.result_rows(found), names, "result"))
    if found.different:
        console.print()
        console.print(tables.comparison_table(found.different, names, "what was different"))
    console.print(f"\n{comparing.same_models_sentence(found)}.", soft_wrap=True)
    if output is not None:
        console.print(f"page  {output}", soft_wrap=True)
