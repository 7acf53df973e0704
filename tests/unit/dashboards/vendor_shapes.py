"""The structure of files that Chronograf and Grafana themselves wrote: key to type, taken down from exports.

Chronograf: the export `src/process/export/TSTAT.json` of github.com/pragmagrid/tstat, and for what came later the types
of github.com/influxdata/chronograf, `ui/src/types/{dashboards,tempVars}.ts` and `ui/src/dashboards/utils/export.ts`.
Grafana: an export of 11.6 that Amazon publishes ("Set up Grafana for SiteWise Edge"), the table panels and raw queries
of github.com/grafana/grafana, `devenv/dev-dashboards/datasource-influxdb/`, and its `table` panel's options.

A type is a Python type, several of them, a dict for an object, or a list with the shape of its items. A key that starts
with `?` may be missing.
"""

from typing import Any

Shape = Any

_AXIS = {"bounds": list, "label": str, "prefix": str, "suffix": str, "base": str, "scale": str}
_LINK = {"self": str}

CHRONOGRAF_CELL: dict[str, Shape] = {
    "i": str,
    "x": int,
    "y": int,
    "w": int,
    "h": int,
    "name": str,
    "queries": [
        {
            "query": str,
            "queryConfig": {
                "database": str,
                "measurement": str,
                "retentionPolicy": str,
                "fields": list,
                "tags": dict,
                "groupBy": {"time": str, "tags": list},
                "areTagsAccepted": bool,
                "rawText": (str, type(None)),
                "range": (dict, type(None)),
                "shifts": (list, type(None)),
            },
            "source": str,
            "?type": str,
        }
    ],
    "axes": {"x": _AXIS, "y": _AXIS, "y2": _AXIS},
    "type": str,
    "colors": [{"id": str, "type": str, "hex": str, "name": str, "value": str}],
    "links": _LINK,
    "?legend": {"?type": str, "?orientation": str},
    "?tableOptions": {
        "verticalTimeAxis": bool,
        "sortBy": {"internalName": str, "displayName": str, "visible": bool},
        "wrapping": str,
        "fixFirstColumn": bool,
    },
    "?fieldOptions": [{"internalName": str, "displayName": str, "visible": bool}],
    "?timeFormat": str,
    "?decimalPlaces": {"isEnforced": bool, "digits": int},
    "?note": str,
    "?noteVisibility": str,
}

CHRONOGRAF: dict[str, Shape] = {
    "meta": {"chronografVersion": str, "sources": {"0": {"name": str, "link": str}}},
    "dashboard": {
        "id": int,
        "cells": [CHRONOGRAF_CELL],
        "templates": [
            {
                "id": str,
                "tempVar": str,
                "values": list,
                "type": str,
                "label": str,
                "query": {"influxql": str, "db": str, "measurement": str, "tagKey": str, "fieldKey": str},
                "links": _LINK,
            }
        ],
        "name": str,
        "organization": str,
        "links": {"self": str, "cells": str, "templates": str},
    },
}

CHRONOGRAF_CELL_TYPES = {"line", "line-stacked", "line-stepplot", "bar", "single-stat", "gauge", "table"}

_SOURCE = {"type": str, "uid": str}
_LINE_STYLE: dict[str, Shape] = {
    "axisBorderShow": bool,
    "axisCenteredZero": bool,
    "axisColorMode": str,
    "axisLabel": str,
    "axisPlacement": str,
    "barAlignment": int,
    "barWidthFactor": float,
    "drawStyle": str,
    "fillOpacity": int,
    "gradientMode": str,
    "hideFrom": {"legend": bool, "tooltip": bool, "viz": bool},
    "insertNulls": bool,
    "lineInterpolation": str,
    "lineWidth": int,
    "pointSize": int,
    "scaleDistribution": {"type": str},
    "showPoints": str,
    "spanNulls": bool,
    "stacking": {"group": str, "mode": str},
    "thresholdsStyle": {"mode": str},
}


def _panel(style: Shape, options: Shape) -> dict[str, Shape]:
    return {
        "datasource": _SOURCE,
        "?description": str,
        "fieldConfig": {
            "defaults": {
                "color": {"mode": str},
                "custom": style,
                "mappings": list,
                "thresholds": {"mode": str, "steps": [{"color": str, "?value": (int, type(None))}]},
                "?unit": str,
            },
            "overrides": list,
        },
        "gridPos": {"h": int, "w": int, "x": int, "y": int},
        "id": int,
        "options": options,
        "pluginVersion": str,
        "targets": [
            {
                "?alias": str,
                "datasource": _SOURCE,
                "query": str,
                "?rawQuery": bool,
                "refId": str,
                "?resultFormat": str,
            }
        ],
        "title": str,
        "type": str,
    }


GRAFANA_PANELS: dict[str, dict[str, Shape]] = {
    "timeseries": _panel(
        _LINE_STYLE,
        {
            "legend": {"calcs": list, "displayMode": str, "placement": str, "showLegend": bool},
            "tooltip": {"hideZeros": bool, "mode": str, "sort": str},
        },
    ),
    "table": _panel(
        {"align": str, "cellOptions": {"type": str}, "inspect": bool},
        {
            "cellHeight": str,
            "footer": {"countRows": bool, "fields": str, "reducer": list, "show": bool},
            "showHeader": bool,
        },
    ),
}

GRAFANA: dict[str, Shape] = {
    "__inputs": [{"name": str, "label": str, "description": str, "type": str, "pluginId": str, "pluginName": str}],
    "__elements": dict,
    "__requires": [{"type": str, "id": str, "name": str, "version": str}],
    "annotations": {
        "list": [
            {
                "builtIn": int,
                "datasource": _SOURCE,
                "enable": bool,
                "hide": bool,
                "iconColor": str,
                "name": str,
                "type": str,
            }
        ]
    },
    "?description": str,
    "editable": bool,
    "fiscalYearStartMonth": int,
    "graphTooltip": int,
    "id": type(None),
    "links": list,
    "panels": list,
    "?refresh": str,
    "schemaVersion": int,
    "tags": list,
    "templating": {
        "list": [
            {
                "current": dict,
                "datasource": _SOURCE,
                "definition": str,
                "hide": int,
                "includeAll": bool,
                "label": str,
                "multi": bool,
                "name": str,
                "options": list,
                "query": str,
                "refresh": int,
                "regex": str,
                "skipUrlSync": bool,
                "sort": int,
                "type": str,
            }
        ]
    },
    "time": {"from": str, "to": str},
    "timepicker": dict,
    "timezone": str,
    "title": str,
    "uid": str,
    "version": int,
    "weekStart": str,
}


def differences(value: object, shape: Shape, place: str = "") -> list[str]:
    """Where a value is not as the shape says: another type, a key too many, a key too few."""
    if isinstance(shape, list):
        if not isinstance(value, list):
            return [f"{place}: expected a list"]
        return [line for i, item in enumerate(value) for line in differences(item, shape[0], f"{place}[{i}]")]
    if not isinstance(shape, dict):
        kinds = shape if isinstance(shape, tuple) else (shape,)
        return [] if type(value) in kinds else [f"{place}: {type(value).__name__} instead of {shape}"]
    if not isinstance(value, dict):
        return [f"{place}: expected an object"]
    known = {key.removeprefix("?"): inner for key, inner in shape.items()}
    missing = [f"{place}.{key}: missing" for key in shape if not key.startswith("?") and key not in value]
    unknown = [f"{place}.{key}: unknown" for key in value if key not in known]
    inside = [line for key in value if key in known for line in differences(value[key], known[key], f"{place}.{key}")]
    return missing + unknown + inside
