"""The files that people import: up to date, built as the tools themselves build theirs, and without overlaps."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dashboards import chronograf, document, grafana
from dashboards.__main__ import BOARDS, ROOT, files
from dashboards.panels import COLUMNS, Dashboard, places
from schemas.metrics import MEASUREMENTS
from tests.unit.dashboards.vendor_shapes import (
    CHRONOGRAF,
    CHRONOGRAF_CELL_TYPES,
    GRAFANA,
    GRAFANA_PANELS,
    differences,
)

EXPECTED = files(BOARDS, chronograf.DATABASE)


@pytest.mark.parametrize("name", EXPECTED)
def test_file_is_up_to_date_when_description_changes(name: str) -> None:
    assert (ROOT / "dashboards" / name).read_text() == EXPECTED[name], "run: python -m dashboards"


def test_page_is_up_to_date_when_description_changes() -> None:
    assert (ROOT / "docs" / "dashboards.md").read_text() == document.page(BOARDS), "run: python -m dashboards"


def test_no_other_file_is_there_when_all_were_written() -> None:
    found = {str(path.relative_to(ROOT / "dashboards")) for path in (ROOT / "dashboards").glob("*/*.json")}

    assert found == set(EXPECTED)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_chronograf_file_is_built_as_its_own_exports_are(board: Dashboard) -> None:
    exported = chronograf.export(board)

    assert differences(exported, CHRONOGRAF) == []
    assert {cell["type"] for cell in exported["dashboard"]["cells"]} <= CHRONOGRAF_CELL_TYPES


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_grafana_file_is_built_as_its_own_exports_are(board: Dashboard) -> None:
    exported = grafana.export(board)

    assert differences(exported, GRAFANA) == []
    for panel in exported["panels"]:
        assert differences(panel, GRAFANA_PANELS[panel["type"]], panel["title"]) == []
    declared = {need["id"] for need in exported["__requires"] if need["type"] == "panel"}
    assert declared == {panel["type"] for panel in exported["panels"]}


def test_shape_finds_what_differs_when_a_file_is_wrong() -> None:
    exported = chronograf.export(BOARDS[0])
    cell = exported["dashboard"]["cells"][0]
    cell["x"], cell["colour"] = "0", []
    del cell["name"]

    assert differences(exported, CHRONOGRAF) == [
        ".dashboard.cells[0].name: missing",
        ".dashboard.cells[0].colour: unknown",
        f".dashboard.cells[0].x: str instead of {int}",
    ]


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_panels_do_not_overlap_when_placed(board: Dashboard) -> None:
    taken = [
        {(place.x + x, place.y + y) for x in range(panel.width) for y in range(panel.height)}
        for panel, place in zip(board.panels, places(board.panels), strict=True)
    ]

    assert not any(one & other for one, other in itertools.combinations(taken, 2))
    assert all(x < COLUMNS for area in taken for x, _ in area)


def test_identifiers_differ_when_files_are_imported_side_by_side() -> None:
    cells = [cell["i"] for board in BOARDS for cell in chronograf.export(board)["dashboard"]["cells"]]
    uids = [grafana.export(board)["uid"] for board in BOARDS]

    numbers = [chronograf.export(board)["dashboard"]["id"] for board in BOARDS]

    assert len(set(cells)) == len(cells)
    assert len(set(numbers)) == len(numbers)
    assert max(numbers) < 0
    assert len(set(uids)) == len(uids)


def test_database_is_in_every_query_when_chronograf_is_told_another() -> None:
    exported = chronograf.export(BOARDS[1], "homes")["dashboard"]

    assert all('FROM "homes".."fl_' in cell["queries"][0]["query"] for cell in exported["cells"])
    assert [template["query"]["db"] for template in exported["templates"]] == ["homes"]


def words_in(value: Any) -> Iterator[str]:
    """Every string in a JSON document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from words_in(inner)


@pytest.mark.parametrize("name", EXPECTED)
def test_flux_names_only_what_the_schema_has(name: str) -> None:
    board = next(board for board in BOARDS if board.name == Path(name).stem)
    known = {word for m in MEASUREMENTS for word in (m.name, *m.tags, *(field.name for field in m.fields))}

    for panel in board.panels:
        named = {part.split('"')[1] for part in panel.query.flux.split("== ")[1:] if part.startswith('"')}
        assert named - {"${run_id}", "${agent_id}"} <= known


@pytest.mark.parametrize("name", EXPECTED)
def test_no_mark_is_left_when_a_file_was_written(name: str) -> None:
    marks = {":time:", ":interval:"} | (set() if name.startswith("chronograf") else {":run_id:", ":agent_id:"})
    texts = list(words_in(json.loads(EXPECTED[name])))

    for mark in marks - ({":interval:"} if name.startswith("chronograf") else set()):
        assert not [text for text in texts if mark in text]
