"""The database on the server holds what the run has recorded."""

from statistics import mean

import pytest

from schemas.records import DeviceRecord
from tests.testbed.federation import Federation, Run, wait_until
from tests.testbed.names import PIS


def test_every_closed_round_is_in_influxdb_with_the_runs_own_numbers(federation: Federation, finished: Run) -> None:
    rounds = finished.rounds()
    where = f"FROM fl_round WHERE run_id = '{finished.run_id}'"
    count = f"SELECT round_number {where}"
    wait_until(lambda: len(federation.query(count)) == len(rounds), "the metrics to be shipped")

    rows = federation.query(f"SELECT round_number, accuracy, loss, duration_s, num_accepted, packet_bytes_up {where}")

    told = [(row["round_number"], row["accuracy"], row["loss"], row["duration_s"]) for row in rows]
    assert told == [(each.round_number, each.accuracy, each.loss, each.duration_s) for each in rounds]
    assert [row["packet_bytes_up"] for row in rows] == [each.packet_bytes_up for each in rounds]
    assert [row["num_accepted"] for row in rows] == [len(each.accepted) for each in rounds]


@pytest.mark.parametrize("host", PIS)
def test_influxql_computes_of_a_device_what_its_records_give(federation: Federation, finished: Run, host: str) -> None:
    records = [each for each in finished.records() if isinstance(each, DeviceRecord) and each.agent_id == host]
    where = f"FROM fl_device WHERE run_id = '{finished.run_id}' AND agent_id = '{host}'"

    (row,) = federation.query(f"SELECT count(round_number) AS rounds, mean(train_s) AS train_s {where}")

    assert row["rounds"] == len(records)
    assert row["train_s"] == pytest.approx(mean(each.report.train_s for each in records))
