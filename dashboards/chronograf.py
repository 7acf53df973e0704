"""Writes a dashboard as Chronograf exports one: `*.json`, for its button *Import Dashboard*.

Under the name `*.dashboard`, its server also takes the same files from its folder of canned dashboards; their ids are
negative, as it asks, so that they are none that it gives itself.
The structure is that of Chronograf's own exports (`ui/src/types/dashboards.ts` of its repository, and an export that a
user published); a test compares the two. Importing cannot be tried here.
"""

import uuid
from typing import Any

from dashboards.panels import Dashboard, Panel, Place, Variable, places
from dashboards.queries import INTERVAL, TIME

DATABASE = "fl"
"""The name that `docs/metrics.md` suggests; Chronograf writes it into every query."""

VERSION = "1.8.10"
SOURCE = "/chronograf/v1/sources/0"
"""Replaced by Chronograf when a person imports the file: it asks which of its own sources this is."""

_TYPES = {
    "line": "line",
    "stacked": "line-stacked",
    "step": "line-stepplot",
    "bar": "bar",
    "table": "table",
    "number": "single-stat",
}
_SUFFIXES = {"s": " s", "celsius": " °C"}
_COLOURS = (("#0072B2", "blue"), ("#E69F00", "orange"), ("#009E73", "green"))
_NAMESPACE = uuid.UUID("6f3c5d1e-0b0e-4f5b-9a55-2f2a5d0c9e11")


def export(board: Dashboard, database: str = DATABASE) -> dict[str, Any]:
    """The file's content."""
    number = -1 - uuid.uuid5(_NAMESPACE, board.name).int % 1_000_000
    link = f"/chronograf/v1/dashboards/{number}"
    cells = [
        _cell(board, panel, place, database, link)
        for panel, place in zip(board.panels, places(board.panels), strict=True)
    ]
    return {
        "meta": {"chronografVersion": VERSION, "sources": {"0": {"name": "InfluxDB", "link": SOURCE}}},
        "dashboard": {
            "id": number,
            "name": board.title,
            "organization": "default",
            "cells": cells,
            "templates": [_template(variable, database, link) for variable in board.variables],
            "links": {
                "self": link,
                "cells": f"{link}/cells",
                "templates": f"{link}/templates",
            },
        },
    }


def influxql(text: str, database: str = DATABASE) -> str:
    """A query with Chronograf's own variables; those for tags keep their mark, which it replaces by a quoted value."""
    for measurement in ("fl_round", "fl_device", "fl_refusal", "fl_event"):
        text = text.replace(f"FROM {measurement} ", f'FROM "{database}".."{measurement}" ')
    return text.replace(TIME, "time > :dashboardTime: AND time < :upperDashboardTime:").replace(INTERVAL, ":interval:")


def _cell(board: Dashboard, panel: Panel, place: Place, database: str, link: str) -> dict[str, Any]:
    name = str(uuid.uuid5(_NAMESPACE, f"{board.name}/{panel.title}"))
    return {
        "i": name,
        "x": place.x,
        "y": place.y,
        "w": panel.width,
        "h": panel.height,
        "name": panel.title,
        "queries": [
            {
                "query": influxql(panel.query.influxql, database),
                "queryConfig": _query_config(influxql(panel.query.influxql, database), database),
                "source": SOURCE,
                "type": "influxql",
            }
        ],
        "axes": {
            "x": _axis("time", ""),
            "y": _axis("", _SUFFIXES.get(panel.unit, "")) | {"base": "10" if panel.unit != "bytes" else "2"},
            "y2": _axis("", ""),
        },
        "type": _TYPES[panel.kind],
        "colors": [
            {"id": str(i), "type": "scale", "hex": value, "name": colour, "value": str(i)}
            for i, (value, colour) in enumerate(_COLOURS)
        ],
        "legend": {"type": "static", "orientation": "bottom"},
        "tableOptions": {
            "verticalTimeAxis": True,
            "sortBy": {"internalName": "time", "displayName": "", "visible": True},
            "wrapping": "truncate",
            "fixFirstColumn": True,
        },
        "fieldOptions": [{"internalName": "time", "displayName": "", "visible": True}],
        "timeFormat": "YYYY-MM-DD HH:mm:ss",
        "decimalPlaces": {"isEnforced": True, "digits": 3},
        "note": panel.question,
        "noteVisibility": "default",
        "links": {"self": f"{link}/cells/{name}"},
    }


def _query_config(text: str, database: str) -> dict[str, Any]:
    """What Chronograf stores beside a query that was written by hand."""
    return {
        "database": database,
        "measurement": "",
        "retentionPolicy": "",
        "fields": [],
        "tags": {},
        "groupBy": {"time": "", "tags": []},
        "areTagsAccepted": False,
        "rawText": text,
        "range": None,
        "shifts": [],
    }


def _axis(label: str, suffix: str) -> dict[str, Any]:
    return {"bounds": ["", ""], "label": label, "prefix": "", "suffix": suffix, "base": "10", "scale": "linear"}


def _template(variable: Variable, database: str, link: str) -> dict[str, Any]:
    identifier = str(uuid.uuid5(_NAMESPACE, variable.name))
    return {
        "id": identifier,
        "tempVar": f":{variable.name}:",
        "values": [],
        "type": "tagValues",
        "label": variable.label,
        "query": {
            "influxql": "SHOW TAG VALUES ON :database: FROM :measurement: WITH KEY=:tagKey:",
            "db": database,
            "measurement": variable.measurement,
            "tagKey": variable.name,
            "fieldKey": "",
        },
        "links": {"self": f"{link}/templates/{identifier}"},
    }
