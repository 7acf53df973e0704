"""What a server must hold of a run, and what InfluxDB does hold, in one form that can be compared."""

from coordinator.run_folder import RunFolder
from schemas.metrics import MEASUREMENTS, FieldValue, PointStream
from schemas.records import RECORDS
from tests.integration.influx_servers import InfluxServers

Place = tuple[str, tuple[tuple[str, str], ...], int]
"""Measurement, tags, nanoseconds."""


def expected_points(run: RunFolder) -> dict[Place, dict[str, FieldValue]]:
    """The points of all lines of a run's record, the later ones replacing the earlier ones."""
    stream = PointStream()
    expected: dict[Place, dict[str, FieldValue]] = {}
    for line in run.record_path.read_bytes().splitlines():
        for point in stream.feed(RECORDS.validate_json(line)):
            place = point.measurement, tuple(sorted(point.tags.items())), point.time_ns
            expected[place] = expected.get(place, {}) | dict(point.fields)
    return expected


def stored_points(servers: InfluxServers, database: str) -> dict[Place, dict[str, FieldValue]]:
    """All points of a database."""
    stored: dict[Place, dict[str, FieldValue]] = {}
    for measurement in MEASUREMENTS:
        names = {field.name: field.type for field in measurement.fields}
        for row in servers.query(f"SELECT * FROM {measurement.name} GROUP BY *", database):  # noqa: S608
            tags = {name: row[name] for name in measurement.tags if row.get(name)}
            # JSON has one kind of number: 3.0 comes back as 3.
            fields = {name: kind(row[name]) for name, kind in names.items() if row.get(name) is not None}
            stored[measurement.name, tuple(sorted(tags.items())), row["time"]] = fields
    return stored


def count_points(servers: InfluxServers, database: str) -> int:
    """How many points a database holds, as it counts them itself: every point has a round number."""
    rows = servers.query("SELECT count(round_number) FROM /fl_.*/", database)
    return sum(row["count"] for row in rows)
