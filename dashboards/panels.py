"""What a dashboard is made of, whatever draws it."""

from typing import NamedTuple

from dashboards.queries import Query

COLUMNS = 12
"""The width of a page; panels follow each other from left to right and wrap."""


class Panel(NamedTuple):
    """One picture or table.

    Attributes:
        kind: `line`, `stacked`, `step`, `bar`, `table` or `number`.
        unit: `s`, `bytes`, `celsius`, `share` (0 to 1), `count`, or empty for a table.
        question: what it answers, for the page in docs/.
    """

    title: str
    kind: str
    unit: str
    query: Query
    question: str
    width: int = 6
    height: int = 4


class Variable(NamedTuple):
    """A choice at the top of a dashboard: the values of a tag.

    Attributes:
        of_run: only the values that the chosen run has.
    """

    name: str
    label: str
    measurement: str
    of_run: bool = False


class Dashboard(NamedTuple):
    """One page.

    Attributes:
        name: of its files; since: how much time it shows at first, such as `24h`.
    """

    name: str
    title: str
    about: str
    variables: tuple[Variable, ...]
    panels: tuple[Panel, ...]
    since: str


RUN_VARIABLE = Variable("run_id", "run", "fl_round")
AGENT_VARIABLE = Variable("agent_id", "device", "fl_device", of_run=True)


class Place(NamedTuple):
    """Where a panel is, in columns and rows."""

    x: int
    y: int


def places(panels: tuple[Panel, ...]) -> list[Place]:
    """Where each panel goes; those of one row are equally high."""
    found, x, y, row_height = [], 0, 0, 0
    for panel in panels:
        if x + panel.width > COLUMNS:
            x, y, row_height = 0, y + row_height, 0
        found.append(Place(x, y))
        x, row_height = x + panel.width, max(row_height, panel.height)
    return found
