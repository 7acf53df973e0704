"""The queries that docs/metrics.md offers give rows on a real server."""

import re
import time
from pathlib import Path

import pytest

from coordinator.influx import InfluxSink
from coordinator.run_folder import RunFolder
from coordinator.shipping import push
from tests.integration.conftest import Influx
from tests.sample_records import device_record, round_record, run_event

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
QUERIES = re.findall(r"```sql\n(.*?)\n```", DOCUMENT.read_text(), re.DOTALL)

HOUR_S = 3600.0


@pytest.fixture
def filled(influx: Influx, tmp_path: Path) -> Influx:
    """A database with a run that had rounds an hour ago and some a week before."""
    run = RunFolder.create(tmp_path / "runs", "run-1", {})
    now_s = time.time()
    with run.lock():
        run.append(run_event(at=now_s - 8 * 24 * HOUR_S))
        for number, hours_ago in enumerate((7 * 24 + 3, 7 * 24 + 2, 2, 1), 1):
            started_at = now_s - hours_ago * HOUR_S
            run.append(device_record(number, started_at=started_at))
            run.append(device_record(number, "pi-2", started_at=started_at, latency_s=9.5))
            run.append(round_record(number, started_at=started_at, duration_s=float(number)))
    sink = InfluxSink(influx.settings)
    push(run, sink)
    sink.close()
    return influx


def ask(influx: Influx, beginning: str) -> list[dict[str, object]]:
    [query] = [query for query in QUERIES if query.startswith(beginning)]
    return influx.servers.query(query, influx.database)


@pytest.mark.parametrize("query", QUERIES)
def test_documented_query_gives_rows_when_run_was_shipped(filled: Influx, query: str) -> None:
    rows = filled.servers.query(query, filled.database)

    assert rows
    assert all(value is not None for row in rows for value in row.values() if query.count("fl_event") == 0)


def test_straggler_is_named_when_asked_for(filled: Influx) -> None:
    rows = ask(filled, "SELECT max(latency_s), agent_id")

    assert [(row["agent_id"], row["max"], row["round_number"]) for row in rows] == [("pi-2", 9.5, 3), ("pi-2", 9.5, 4)]


def test_megabytes_are_summed_by_device_when_asked_for(filled: Influx) -> None:
    rows = ask(filled, "SELECT sum(packet_bytes_up)")

    assert [(row["agent_id"], row["mb_up"]) for row in rows] == [("pi-1", 0.0018), ("pi-2", 0.0018)]


def test_durations_of_now_and_then_differ_when_asked_for(filled: Influx) -> None:
    queries = [query for query in QUERIES if query.startswith("SELECT mean(duration_s)")]

    means = [filled.servers.query(query, filled.database)[0]["mean"] for query in queries]

    assert means == [3.5, 1.5]


def test_refusals_are_counted_by_reason_when_asked_for(filled: Influx) -> None:
    rows = ask(filled, "SELECT sum(count)")

    assert [(row["agent_id"], row["reason"], row["sum"]) for row in rows] == [("pi-3", "non-finite", 8)]
