"""Queries in both languages from one description: InfluxQL, which the tests run, and Flux, which they cannot.

InfluxQL texts hold marks that each tool has its own way of writing: `:time:` (the time range that is shown),
`:interval:` (a width that suits the screen), `:run_id:` and `:agent_id:` (what was chosen at the top).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from schemas.metrics import MEASUREMENTS

TIME, INTERVAL = ":time:", ":interval:"
RUN, AGENT = ":run_id:", ":agent_id:"

OF_RUN = {"run_id": RUN}
OF_DEVICE = {"run_id": RUN, "agent_id": AGENT}

_FLUX_VARIABLES = {RUN: '"${run_id}"', AGENT: '"${agent_id}"'}
_TAGS = {measurement.name: measurement.tags.keys() for measurement in MEASUREMENTS}


class Query(NamedTuple):
    """One query, written twice.

    Attributes:
        influxql: with marks.
        flux: for InfluxDB 2, in the notation that its own dashboards and Grafana share.
    """

    influxql: str
    flux: str


def raw(measurement: str, fields: Sequence[str], where: Mapping[str, str], *, newest: int | None = None) -> Query:
    """The points themselves, one row each.

    Args:
        fields: and tags, which InfluxQL can have among them.
        where: tag to its value, or the mark that stands for it.
        newest: only so many, the newest first.
    """
    columns = ", ".join(_quoted(field) for field in fields)
    tail = f" ORDER BY time DESC LIMIT {newest}" if newest else ""
    influxql = f"SELECT {columns} FROM {measurement} WHERE {_conditions(where)}{tail}"
    steps = [
        *_source(measurement, fields, where),
        '|> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")',
    ]
    if newest:
        steps += ["|> group()", '|> sort(columns: ["_time"], desc: true)', f"|> limit(n: {newest})"]
    return Query(influxql, _flux(steps))


def windowed(  # noqa: PLR0913 - the clauses of one query
    function: str,
    measurement: str,
    field: str,
    name: str,
    *,
    by: Sequence[str] = (),
    where: Mapping[str, str] | None = None,
    every: str = INTERVAL,
    fill: str = "none",
) -> Query:
    """One number per window of time and group, such as the highest temperature of each device.

    Args:
        function: of both languages: mean, max, sum, last, count.
        name: of the result's column.
        by: tags whose values have a line each.
        fill: what an empty window shows.
    """
    groups = ", ".join([f"time({every})", *by])
    influxql = (
        f"SELECT {function}({_quoted(field)}) AS {name} FROM {measurement} WHERE {_conditions(where or {})} "
        f"GROUP BY {groups} fill({fill})"
    )
    window = "v.windowPeriod" if every == INTERVAL else every
    empty = "true" if fill == "previous" else "false"
    steps = [
        *_source(measurement, [field], where or {}),
        f"|> group(columns: [{_listed(by)}])",
        f"|> aggregateWindow(every: {window}, fn: {function}, createEmpty: {empty})",
    ]
    if fill == "previous":
        steps.append("|> fill(usePrevious: true)")
    return Query(influxql, _flux(steps))


def totals(
    columns: Mapping[str, tuple[str, str]],
    measurement: str,
    *,
    by: Sequence[str],
    where: Mapping[str, str] | None = None,
) -> Query:
    """One row per group over the whole time shown.

    Args:
        columns: name of the result's column to function and field; all with the same function.
    """
    chosen = ", ".join(f"{function}({_quoted(field)}) AS {name}" for name, (function, field) in columns.items())
    influxql = f"SELECT {chosen} FROM {measurement} WHERE {_conditions(where or {})} GROUP BY {', '.join(by)}"
    [function] = {function for function, _ in columns.values()}
    fields = [field for _, field in columns.values()]
    steps = [
        *_source(measurement, fields, where or {}),
        f"|> group(columns: [{_listed([*by, '_field'])}])",
        f"|> {function}()",
        f"|> group(columns: [{_listed(by)}])",
        f'|> pivot(rowKey: [{_listed(by)}], columnKey: ["_field"], valueColumn: "_value")',
    ]
    return Query(influxql, _flux(steps))


def _source(measurement: str, fields: Sequence[str], where: Mapping[str, str]) -> list[str]:
    tags = "".join(f" and r.{tag} == {_FLUX_VARIABLES.get(value, _text(value))}" for tag, value in where.items())
    wanted = " or ".join(f"r._field == {_text(field)}" for field in fields if field not in _TAGS[measurement])
    return [
        "|> range(start: v.timeRangeStart, stop: v.timeRangeStop)",
        f"|> filter(fn: (r) => r._measurement == {_text(measurement)}{tags})",
        f"|> filter(fn: (r) => {wanted})",
    ]


def _flux(steps: Sequence[str]) -> str:
    return "\n  ".join(['from(bucket: "fl")', *steps])


def _conditions(where: Mapping[str, str]) -> str:
    tags = [f"{tag} = {value if value.startswith(':') else _literal(value)}" for tag, value in where.items()]
    return " AND ".join([*tags, TIME])


def _quoted(field: str) -> str:
    return f'"{field}"'


def _literal(value: str) -> str:
    return f"'{value}'"


def _text(value: str) -> str:
    return f'"{value}"'


def _listed(names: Sequence[str]) -> str:
    return ", ".join(_text(name) for name in names)
