"""Pictures on a page: drawn for light and dark, written as PNG files, embedded so that the page needs nothing else."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from coordinator import tables
from coordinator.durable import make_folder, replace_file
from coordinator.report import plots


@dataclass(frozen=True, slots=True)
class Picture:
    """One plot of the report.

    Attributes:
        name: of its PNG file.
        alt: says in words what the picture shows.
    """

    name: str
    title: str
    alt: str
    note: str
    draw: plots.Draw
    height_in: float


def draw(pictures: Sequence[Picture], folder: Path) -> tuple[list[dict[str, object]], list[Path]]:
    """Each picture as what a template embeds, and as a light PNG file in the folder.

    Raises:
        StorageError: a file cannot be written.
    """
    make_folder(folder.parent)
    make_folder(folder)
    embedded: list[dict[str, object]] = []
    files = []
    for picture in pictures:
        light, dark = (plots.render(picture.draw, theme, picture.height_in) for theme in (plots.LIGHT, plots.DARK))
        files.append(folder / f"{picture.name}.png")
        replace_file(files[-1], [light])
        embedded.append({"picture": picture, "light": _data_uri(light), "dark": _data_uri(dark)})
    return embedded, files


def template(name: str) -> jinja2.Template:
    """A page's template, which escapes whatever is put into it."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("coordinator.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": tables.percent, "number": tables.number, "moment": tables.moment}
    return environment.get_template(name)


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
