"""Bars side by side with a word above the last of each group: the picture that most benchmarks need."""

from collections.abc import Sequence
from typing import Any

from benchmarks.result import Row

Series = tuple[str, str, str]
"""What the legend says, the rows' key, and the colour."""


def grouped_bars(
    axes: Any, rows: Sequence[Row], labels: Sequence[str], series: Sequence[Series], factor: float = 1.0
) -> None:
    """One group per row, one bar per series; a legend above them all."""
    width = 0.8 / len(series)
    for index, (name, key, colour) in enumerate(series):
        shift = (index - (len(series) - 1) / 2) * width
        heights = [(row[key] or 0.0) * factor for row in rows]
        axes.bar([place + shift for place in range(len(rows))], heights, width, color=colour, label=name)
    axes.set_xticks(list(range(len(rows))), labels)
    # A single group would fill the picture.
    axes.set_xlim(-0.8, max(len(rows) - 0.2, 1.2))
    axes.margins(y=0.35)
    axes.legend(loc="upper left", ncols=len(series) if len(series) < 4 else 2)


def words_above(axes: Any, rows: Sequence[Row], key: str, words: Sequence[str], factor: float = 1.0) -> None:
    """A word above the bar of `key` of each group, in the middle of the group's right half."""
    for place, (row, word) in enumerate(zip(rows, words, strict=True)):
        axes.annotate(word, (place + 0.2, (row[key] or 0.0) * factor), ha="center", va="bottom")
