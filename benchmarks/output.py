"""Writes a result where people and programs find it: one JSON document and one picture in a folder of its own."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from rich.table import Table

from benchmarks.result import Result
from coordinator.report.plots import LIGHT, Theme, render
from schemas.errors import StorageError

Draw = Callable[[Figure, Theme, Result], None]


class Written(NamedTuple):
    """What was written."""

    folder: Path
    json_file: Path
    picture: Path


def new_folder(root: Path, name: str) -> Path:
    """A folder for one benchmark's files, named after it and the time.

    Raises:
        StorageError: it cannot be made.
    """
    folder = root / f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the folder {folder}: {error.strerror or error}") from error
    return folder


def document(name: str, command: str, machine: dict[str, Any], result: Result, duration_s: float) -> dict[str, Any]:
    """Everything about a result as plain data."""
    return {
        "benchmark": name,
        "command": command,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "duration_s": round(duration_s, 3),
        "machine": machine,
        "settings": dict(result.settings),
        "rows": result.rows,
        "summary": dict(result.summary),
        "details": dict(result.details),
        "references": dict(result.references),
        "notes": list(result.notes),
    }


def write(folder: Path, content: dict[str, Any], picture: bytes) -> Written:
    """Write NAME.json and NAME.png into a folder, NAME being the benchmark's.

    Raises:
        StorageError: the disk does not allow it.
    """
    name = content["benchmark"]
    written = Written(folder, folder / f"{name}.json", folder / f"{name}.png")
    try:
        written.json_file.write_text(json.dumps(content, indent=2) + "\n")
        written.picture.write_bytes(picture)
    except OSError as error:
        raise StorageError(f"cannot write into {folder}: {error.strerror or error}") from error
    return written


def picture_of(result: Result, draw: Draw, height_in: float) -> bytes:
    """The result drawn as PNG."""
    return render(lambda figure, theme: draw(figure, theme, result), LIGHT, height_in)


def as_table(result: Result) -> Table:
    """The rows for a person."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in result.columns:
        numeric = any(isinstance(row.get(column.key), int | float) for row in result.rows)
        table.add_column(column.title, justify="right" if numeric else "left")
    for row in result.rows:
        table.add_row(*(column.text(row) for column in result.columns))
    return table
