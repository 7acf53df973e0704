"""What every benchmark gives back: rows of plain numbers, what they sum up to, and how to show them as a table."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]
Say = Callable[[str], None]
"""Where a benchmark tells how far it is."""

MISSING = "-"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table.

    Attributes:
        key: of the rows; the JSON document has it under this name.
        title: with the unit, when the number has one.
        digits: after the point.
        factor: what the number is multiplied by for people (1000 for seconds shown as milliseconds).
    """

    key: str
    title: str
    digits: int = 0
    factor: float = 1.0

    def text(self, row: Row) -> str:
        """The cell of a row."""
        value = row.get(self.key)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return MISSING
        if isinstance(value, bool) or not isinstance(value, int | float):
            return str(value)
        return f"{value * self.factor:,.{self.digits}f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The outcome of one benchmark.

    Attributes:
        settings: with which it ran.
        rows: one measurement each; plain JSON.
        columns: those of a row's numbers that are shown in the table.
        summary: ratios and totals over the rows.
        details: what only the JSON document has, such as every single round.
        references: published or earlier numbers to hold it against, with where they come from.
        notes: sentences for below the table.
    """

    settings: Mapping[str, Any]
    rows: list[Row]
    columns: tuple[Column, ...]
    summary: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    references: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
