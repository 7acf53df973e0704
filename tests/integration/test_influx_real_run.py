"""A real run that was shipped while it went on: InfluxQL reads back what its record says, point for point.

VictoriaMetrics, which shares no code with InfluxDB, is asked for the same numbers.
"""

import pytest

from coordinator import summary
from coordinator.influx import InfluxSettings, InfluxSink
from coordinator.shipping import push
from tests.integration.influx_servers import WRITE_TOKEN, VictoriaMetrics
from tests.integration.read_back import count_points, expected_points, stored_points
from tests.integration.shipped_run import ShippedRun
from tests.secret_files import write_secret

pytestmark = pytest.mark.timeout(240)


def test_every_point_is_read_back_equal_when_run_shipped_itself(shipped_run: ShippedRun) -> None:
    expected = expected_points(shipped_run.run)

    assert stored_points(shipped_run.servers, shipped_run.database) == expected
    assert count_points(shipped_run.servers, shipped_run.database) == len(expected)
    assert {measurement for measurement, _, _ in expected} == {"fl_round", "fl_device", "fl_refusal", "fl_event"}


def test_nothing_is_there_twice_when_a_real_run_is_pushed_again(
    shipped_run: ShippedRun, tmp_path_factory: pytest.TempPathFactory
) -> None:
    token = write_secret(tmp_path_factory.mktemp("again") / "token", WRITE_TOKEN)
    sink = InfluxSink(InfluxSettings(url=shipped_run.servers.url, bucket=shipped_run.database, token_file=token))

    push(shipped_run.run, sink, everything=True)

    sink.close()
    expected = expected_points(shipped_run.run)
    assert stored_points(shipped_run.servers, shipped_run.database) == expected
    assert count_points(shipped_run.servers, shipped_run.database) == len(expected)


def test_victoria_metrics_gives_the_same_numbers_when_a_real_run_is_pushed(
    shipped_run: ShippedRun, victoria_metrics: VictoriaMetrics
) -> None:
    sink = InfluxSink(InfluxSettings(url=victoria_metrics.url, bucket="any"))
    for _ in range(2):
        push(shipped_run.run, sink, everything=True)
    sink.close()

    records = shipped_run.run.records()
    rounds, devices = summary.rounds_of(records), summary.summarise_devices(records)
    run = f'{{run_id="{shipped_run.run.run_id}"}}'
    accuracies = [sample.value for sample in victoria_metrics.export(f"fl_round_accuracy{run}")]
    sent = victoria_metrics.export(f"fl_device_packet_bytes_up{run}")
    assert accuracies == pytest.approx([record.accuracy for record in rounds])
    for device in devices:
        values = [sample.value for sample in sent if sample.labels["agent_id"] == device.agent_id]
        assert sum(values) == device.packet_bytes_up
