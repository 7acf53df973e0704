"""A page of a long list: what fits a screen, and a search, so that a thousand devices cost no more than twenty."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which page of a list: counted from 1, of those whose name holds `query`."""

    page: int = 1
    query: str = ""
    size: int = 24


@dataclass(frozen=True, slots=True)
class PageOf(Generic[T]):
    """One page.

    Attributes:
        total: how many the list has, on all pages.
        page: which one this is; the last one when a later one was asked for.
    """

    items: Sequence[T]
    total: int
    page: int
    pages: int

    def document(self) -> dict[str, int]:
        """What a browser needs to show where it is."""
        return {"total": self.total, "page": self.page, "pages": self.pages}


def page_of(items: Sequence[T], wanted: Wanted) -> PageOf[T]:
    """The wanted page of a list."""
    pages = max(1, -(-len(items) // wanted.size))
    page = min(max(1, wanted.page), pages)
    start = (page - 1) * wanted.size
    return PageOf(items[start : start + wanted.size], len(items), page, pages)
