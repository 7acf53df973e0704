"""Reads what the tests need of a Markdown page: tables, fenced blocks and links. No more of the language than our pages
use."""

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs"

_HEADING = re.compile(r"^(#{1,6}) (.+)$")
_FENCE = re.compile(r"^```(.*)$")
_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Table:
    """One table: its rows as column name -> cell."""

    heading: str
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]


@dataclass(frozen=True)
class Block:
    """One fenced block: what stands behind the fence, and the text inside."""

    heading: str
    info: str
    text: str


class Page:
    """A page, taken apart."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text()
        self.headings: list[str] = []
        self.tables: list[Table] = []
        self.blocks: list[Block] = []
        self._read(self.text.splitlines())

    def table(self, heading: str, *columns: str) -> Table:
        """The one table under a heading that begins with these columns."""
        found = [t for t in self.tables if t.heading == heading and t.columns[: len(columns)] == columns]
        assert len(found) == 1, f"{self.path.name} has {len(found)} tables {columns} under {heading!r}"
        return found[0]

    def block(self, info: str) -> str:
        """The text of the one fenced block with this info string."""
        found = [block.text for block in self.blocks if block.info == info]
        assert len(found) == 1, f"{self.path.name} has {len(found)} blocks {info!r}"
        return found[0]

    def links(self) -> list[tuple[str, str]]:
        """Text and target of every link outside fenced blocks."""
        outside = re.sub(r"^```.*?^```$", "", self.text, flags=re.MULTILINE | re.DOTALL)
        return _LINK.findall(outside)

    def anchors(self) -> set[str]:
        """What `#...` links on this page may point to, as GitHub makes them."""
        return {anchor(heading) for heading in self.headings}

    def _read(self, lines: list[str]) -> None:
        heading = ""
        at = 0
        while at < len(lines):
            line = lines[at]
            if match := _HEADING.match(line):
                heading = match[2].strip()
                self.headings.append(heading)
            elif match := _FENCE.match(line):
                end = lines.index("```", at + 1)
                self.blocks.append(Block(heading, match[1].strip(), "\n".join(lines[at + 1 : end])))
                at = end
            elif line.lstrip().startswith("|"):
                end = at
                while end < len(lines) and lines[end].lstrip().startswith("|"):
                    end += 1
                self.tables.append(_table(heading, lines[at:end]))
                at = end - 1
            at += 1


def anchor(heading: str) -> str:
    """The anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def code(cell: str) -> str:
    """A cell without its backquotes."""
    return cell.replace("`", "")


def _table(heading: str, lines: list[str]) -> Table:
    columns = _cells(lines[0])
    rows = [_cells(line) for line in lines[2:]]
    assert all(len(row) == len(columns) for row in rows), f"a row under {heading!r} has another number of cells"
    return Table(heading, columns, tuple(dict(zip(columns, row, strict=True)) for row in rows))


def _cells(line: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|")))
