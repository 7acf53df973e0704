"""Every query of every dashboard file gives rows on a real InfluxDB that holds a real run.

Variables are replaced as the tool itself replaces them, from what the file says and from what the variable's own query
gives.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.integration.shipped_run import ShippedRun

FOLDER = Path(__file__).parents[2] / "dashboards"
NAMES = ("fleet", "run", "device")

pytestmark = pytest.mark.timeout(240)


def chronograf(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / "chronograf" / f"{name}.json").read_text())["dashboard"]
    return document


def grafana(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / "grafana" / f"{name}.json").read_text())
    return document


CELLS = [(name, cell["name"]) for name in NAMES for cell in chronograf(name)["cells"]]
PANELS = [(name, panel["title"]) for name in NAMES for panel in grafana(name)["panels"]]


def chosen_in_chronograf(document: dict[str, Any], shipped: ShippedRun) -> dict[str, str]:
    """Template variable to the first value that its own query gives, quoted as Chronograf quotes the value of a tag."""
    chosen = {}
    for template in document["templates"]:
        query = template["query"]
        text = query["influxql"]
        for mark, value in ((":database:", "db"), (":measurement:", "measurement"), (":tagKey:", "tagKey")):
            text = text.replace(mark, f'"{query[value]}"')
        chosen[template["tempVar"]] = f"'{shipped.servers.query(text, '')[0]['value']}'"
    return chosen


def chosen_in_grafana(document: dict[str, Any], shipped: ShippedRun) -> dict[str, str]:
    """Variable to the first value that its own query gives, those before it replaced."""
    chosen: dict[str, str] = {}
    for variable in document["templating"]["list"]:
        rows = shipped.servers.query(replaced(variable["query"], chosen), shipped.database)
        chosen[f"${{{variable['name']}}}"] = rows[0]["value"]
    return chosen


def replaced(text: str, values: dict[str, str]) -> str:
    for mark, value in values.items():
        text = text.replace(mark, value)
    assert not re.search(r":\w+:|\$\w|\$\{", text), f"a variable is left: {text}"
    return text


def has_values(rows: list[dict[str, Any]], columns: int) -> bool:
    """True when there is a row, and each of its columns has a value somewhere."""
    filled = {column for row in rows for column, value in row.items() if value is not None}
    return len(filled) >= columns and bool(rows)


def num_columns(query: str) -> int:
    """How many columns a query selects, besides the time."""
    return query.split(" FROM ", 1)[0].count(",") + 1 - (2 if "top(" in query else 0)


@pytest.mark.parametrize(("name", "title"), CELLS)
def test_chronograf_query_gives_rows_when_run_was_shipped(shipped_run: ShippedRun, name: str, title: str) -> None:
    document = chronograf(name)
    [cell] = [cell for cell in document["cells"] if cell["name"] == title]
    chosen = chosen_in_chronograf(document, shipped_run)
    period = {":dashboardTime:": "now() - 7d", ":upperDashboardTime:": "now()", ":interval:": "60000ms"}

    for query in cell["queries"]:
        # The database is in the text: none is given beside it.
        rows = shipped_run.servers.query(replaced(query["query"], chosen | period), "")
        assert has_values(rows, num_columns(query["query"])), rows


@pytest.mark.parametrize(("name", "title"), PANELS)
def test_grafana_query_gives_rows_when_run_was_shipped(shipped_run: ShippedRun, name: str, title: str) -> None:
    document = grafana(name)
    [panel] = [panel for panel in document["panels"] if panel["title"] == title]
    chosen = chosen_in_grafana(document, shipped_run)
    period = {"$timeFilter": "time >= now() - 7d and time <= now()", "$__interval": "1m"}

    for target in panel["targets"]:
        rows = shipped_run.servers.query(replaced(target["query"], chosen | period), shipped_run.database)
        assert has_values(rows, num_columns(target["query"])), rows


def test_devices_to_choose_from_are_those_of_the_run_when_it_was_shipped(shipped_run: ShippedRun) -> None:
    assert chosen_in_grafana(grafana("device"), shipped_run) == {"${run_id}": "crash-test", "${agent_id}": "room-1"}
    assert chosen_in_chronograf(chronograf("device"), shipped_run) == {
        ":run_id:": "'crash-test'",
        ":agent_id:": "'room-1'",
    }
