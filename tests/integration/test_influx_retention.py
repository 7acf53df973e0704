"""The file that sets up retention and downsampling does so on a real InfluxDB, and its days add up."""

import re
from pathlib import Path
from typing import Any

import pytest

from coordinator import summary
from schemas.metrics import MEASUREMENTS
from tests.integration.conftest import Influx
from tests.integration.influx_servers import InfluxServers, wait_until
from tests.integration.shipped_run import ShippedRun

FILE = Path(__file__).parents[2] / "dashboards" / "retention.influxql"
DATABASE = "downsampled"

pytestmark = pytest.mark.timeout(240)


def statements() -> list[str]:
    text = "\n".join(line for line in FILE.read_text().splitlines() if not line.startswith("--"))
    return [part.strip() for part in text.split(";") if part.strip()]


def execute(servers: InfluxServers, database: str, every: str = "1h") -> None:
    """Run the file for another database, and its continuous queries more often."""
    for statement in statements():
        servers.query(statement.replace('"fl"', f'"{database}"').replace("EVERY 1h", f"EVERY {every}"), "")


def test_policies_are_set_when_file_is_run_twice(influx: Influx) -> None:
    for _ in range(2):
        execute(influx.servers, influx.database)

    policies = {row["name"]: row for row in influx.servers.query(f'SHOW RETENTION POLICIES ON "{influx.database}"', "")}
    queries = influx.servers.query("SHOW CONTINUOUS QUERIES", "")
    assert policies["autogen"]["default"]
    assert (policies["autogen"]["duration"], policies["years"]["duration"]) == ("4368h0m0s", "43680h0m0s")
    assert (
        len([row for row in queries if f'"{influx.database}"' in row["query"] or influx.database in row["query"]]) == 3
    )


def test_days_add_up_when_a_real_run_was_downsampled(shipped_run: ShippedRun) -> None:
    servers = shipped_run.servers
    servers.create_database(DATABASE)
    copy = f'SELECT * INTO "{DATABASE}"..:MEASUREMENT FROM /fl_.*/ GROUP BY *'  # noqa: S608
    servers.query(copy, shipped_run.database)
    execute(servers, DATABASE, every="1s")

    def daily(query: str) -> list[dict[str, Any]]:
        return servers.query(query, DATABASE)

    rounds = summary.rounds_of(shipped_run.run.records())
    wait_until(
        lambda: (
            sum(row["rounds"] for row in daily('SELECT rounds FROM "years"."fl_round_daily"')) == len(rounds)
            and bool(daily('SELECT "count" FROM "years"."fl_refusal_daily"'))
        ),
        "the continuous queries have run",
        limit_s=120,
    )

    per_device = daily(
        "SELECT sum(packet_bytes_up) AS up, max(cpu_temperature_c) AS warmest "
        'FROM "years"."fl_device_daily" GROUP BY agent_id'
    )
    devices = summary.summarise_devices(shipped_run.run.records())
    assert [(row["agent_id"], row["up"], row["warmest"]) for row in per_device] == [
        (device.agent_id, device.packet_bytes_up, device.max_cpu_temperature_c) for device in devices
    ]
    [refused] = daily('SELECT sum("count") AS messages FROM "years"."fl_refusal_daily"')
    assert refused["messages"] == sum(summary.num_refused(record.refused) for record in rounds)
    servers.query(f'DROP DATABASE "{DATABASE}"', "")


def test_every_field_of_a_daily_query_is_one_that_is_shipped() -> None:
    for statement in statements():
        source = re.search(r'"autogen"\."(fl_\w+)"', statement)
        if source is None or "SELECT" not in statement:
            continue
        [measurement] = [one for one in MEASUREMENTS if one.name == source[1]]
        used = set(re.findall(r'(?:count|mean|max|last|sum)\("?(\w+)"?\)', statement))
        assert used <= {field.name for field in measurement.fields}
