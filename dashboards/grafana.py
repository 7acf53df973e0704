"""Writes a dashboard as Grafana exports one for sharing: `*.json`, for *Dashboards, New, Import*.

The data source is InfluxDB with InfluxQL as its query language; Grafana asks for it on import. The structure is that of
exports of Grafana 11 and 12 (schema versions 41 and 42); a test compares the two. Importing cannot be tried here.
"""

from typing import Any

from dashboards.panels import COLUMNS, Dashboard, Panel, Place, Variable, places
from dashboards.queries import AGENT, INTERVAL, RUN, TIME

GRAFANA_COLUMNS = 24
ROW_HEIGHT = 2
"""Grid rows of Grafana for one of ours."""

SCHEMA_VERSION = 41
SOURCE = {"type": "influxdb", "uid": "${DS_FEDERATION}"}
_BUILT_IN = {"type": "grafana", "uid": "-- Grafana --"}

_UNITS = {"s": "s", "bytes": "bytes", "celsius": "celsius", "share": "percentunit", "count": "short", "": "short"}
_NAMES = {"timeseries": "Time series", "table": "Table", "stat": "Stat"}


def export(board: Dashboard) -> dict[str, Any]:
    """The file's content."""
    panels = [
        _panel(number, panel, place)
        for number, (panel, place) in enumerate(zip(board.panels, places(board.panels), strict=True), 1)
    ]
    kinds = sorted({panel["type"] for panel in panels})
    return {
        "__inputs": [
            {
                "name": "DS_FEDERATION",
                "label": "InfluxDB",
                "description": "InfluxDB with InfluxQL as its query language",
                "type": "datasource",
                "pluginId": "influxdb",
                "pluginName": "InfluxDB",
            }
        ],
        "__elements": {},
        "__requires": [
            {"type": "grafana", "id": "grafana", "name": "Grafana", "version": "11.0.0"},
            {"type": "datasource", "id": "influxdb", "name": "InfluxDB", "version": "1.0.0"},
            *({"type": "panel", "id": kind, "name": _NAMES[kind], "version": ""} for kind in kinds),
        ],
        "annotations": {
            "list": [
                {
                    "builtIn": 1,
                    "datasource": _BUILT_IN,
                    "enable": True,
                    "hide": True,
                    "iconColor": "rgba(0, 211, 255, 1)",
                    "name": "Annotations & Alerts",
                    "type": "dashboard",
                }
            ]
        },
        "description": board.about,
        "editable": True,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "id": None,
        "links": [],
        "panels": panels,
        "refresh": "30s",
        "schemaVersion": SCHEMA_VERSION,
        "tags": ["federation"],
        "templating": {"list": [_variable(variable) for variable in board.variables]},
        "time": {"from": f"now-{board.since}", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "title": board.title,
        "uid": f"federation-{board.name}",
        "version": 1,
        "weekStart": "",
    }


def influxql(text: str) -> str:
    """A query with Grafana's own variables."""
    for mark, variable in (
        (RUN, "'${run_id}'"),
        (AGENT, "'${agent_id}'"),
        (TIME, "$timeFilter"),
        (INTERVAL, "$__interval"),
    ):
        text = text.replace(mark, variable)
    return text


def _panel(number: int, panel: Panel, place: Place) -> dict[str, Any]:
    scale = GRAFANA_COLUMNS // COLUMNS
    table = panel.kind == "table"
    return {
        "datasource": SOURCE,
        "description": panel.question,
        "fieldConfig": {
            "defaults": {
                "color": {"mode": "palette-classic"},
                "custom": _table_style() if table else _line_style(panel.kind),
                "mappings": [],
                "thresholds": {"mode": "absolute", "steps": [{"color": "green"}]},
                **({} if table else {"unit": _UNITS[panel.unit]}),
            },
            "overrides": [],
        },
        "gridPos": {
            "h": panel.height * ROW_HEIGHT,
            "w": panel.width * scale,
            "x": place.x * scale,
            "y": place.y * ROW_HEIGHT,
        },
        "id": number,
        "options": _table_options() if table else _line_options(),
        "pluginVersion": "11.0.0",
        "targets": [
            {
                "alias": "" if table else _alias(panel),
                "datasource": SOURCE,
                "query": influxql(panel.query.influxql),
                "rawQuery": True,
                "refId": "A",
                "resultFormat": "table" if table else "time_series",
            }
        ],
        "title": panel.title,
        "type": "table" if table else "timeseries",
    }


def _alias(panel: Panel) -> str:
    """The name of a line: the group's, where there are groups, or the field's."""
    for tag in ("agent_id", "reason"):
        if f", {tag} " in panel.query.influxql.partition("GROUP BY")[2]:
            return f"$tag_{tag}"
    return "$col"


def _line_style(kind: str) -> dict[str, Any]:
    return {
        "axisBorderShow": False,
        "axisCenteredZero": False,
        "axisColorMode": "text",
        "axisLabel": "",
        "axisPlacement": "auto",
        "barAlignment": 0,
        "barWidthFactor": 0.6,
        "drawStyle": "bars" if kind == "bar" else "line",
        "fillOpacity": 60 if kind in ("bar", "stacked") else 0,
        "gradientMode": "none",
        "hideFrom": {"legend": False, "tooltip": False, "viz": False},
        "insertNulls": False,
        "lineInterpolation": "stepAfter" if kind == "step" else "linear",
        "lineWidth": 1,
        "pointSize": 5,
        "scaleDistribution": {"type": "linear"},
        "showPoints": "auto",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if kind in ("bar", "stacked") else "none"},
        "thresholdsStyle": {"mode": "off"},
    }


def _line_options() -> dict[str, Any]:
    return {
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"hideZeros": False, "mode": "multi", "sort": "none"},
    }


def _table_style() -> dict[str, Any]:
    return {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False}


def _table_options() -> dict[str, Any]:
    return {
        "cellHeight": "sm",
        "footer": {"countRows": False, "fields": "", "reducer": ["sum"], "show": False},
        "showHeader": True,
    }


def _variable(variable: Variable) -> dict[str, Any]:
    of_run = f' WHERE "run_id" = {influxql(RUN)}' if variable.of_run else ""
    query = f'SHOW TAG VALUES FROM "{variable.measurement}" WITH KEY = "{variable.name}"{of_run}'
    return {
        "current": {},
        "datasource": SOURCE,
        "definition": query,
        "hide": 0,
        "includeAll": False,
        "label": variable.label,
        "multi": False,
        "name": variable.name,
        "options": [],
        "query": query,
        "refresh": 2,
        "regex": "",
        "skipUrlSync": False,
        "sort": 2 if variable.name == "run_id" else 1,
        "type": "query",
    }
