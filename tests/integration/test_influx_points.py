"""What real servers hold after a run was shipped: the same points, once, with stable types; and their refusals."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.influx import InfluxSettings, InfluxSink
from coordinator.run_folder import RunFolder
from coordinator.shipping import ShippingStatus, SinkError, push
from schemas.metrics import MEASUREMENTS, Point, points
from tests.integration.certificates import Authority
from tests.integration.conftest import Influx
from tests.integration.flaky_http import FlakyProxy
from tests.integration.influx_servers import READ_TOKEN, READER, WRITER, VictoriaMetrics
from tests.integration.read_back import count_points, expected_points, stored_points
from tests.sample_records import STARTED_AT, device_record, round_record, run_event
from tests.secret_files import write_secret

TYPES = {int: "integer", float: "float", bool: "boolean", str: "string"}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run of 12 rounds with three devices, of which the last round was repeated after a crash."""
    folder = RunFolder.create(tmp_path / "runs", "run-1", {})
    with folder.lock():
        folder.append(run_event("started", detail='said "go"\\ and,\n =went'))
        for number in range(1, 13):
            for agent_id in ("pi-1", "pi-2", "pi-3"):
                folder.append(device_record(number, agent_id, latency_s=None if agent_id == "pi-3" else 2.0))
            folder.append(round_record(number, accuracy=None if number == 4 else number / 13))
        folder.append(round_record(12, started_at=STARTED_AT + 500, refused={}, accuracy=1.0))
        for agent_id in ("pi-1", "pi-2"):
            folder.append(run_event("agent-offline", 12, agent_id=agent_id))
    return folder


@pytest.fixture
def sink(influx: Influx) -> Iterator[InfluxSink]:
    sink = InfluxSink(influx.settings)
    yield sink
    sink.close()


def refusal_of(settings: InfluxSettings) -> SinkError:
    """Why the server does not take a point."""
    sink = InfluxSink(settings)
    try:
        with pytest.raises(SinkError) as caught:
            sink.write(points(round_record()))
    finally:
        sink.close()
    return caught.value


def test_every_point_is_read_back_equal_when_run_was_pushed(influx: Influx, run: RunFolder, sink: InfluxSink) -> None:
    status = push(run, sink)

    stored = stored_points(influx.servers, influx.database)
    assert stored == expected_points(run)
    assert len(stored) == 12 * (1 + 3 + 1) + 3
    assert status == ShippingStatus(points_shipped=len(stored) + 2, records_waiting=0)


def test_repeated_round_is_there_once_when_it_was_recorded_twice(
    influx: Influx, run: RunFolder, sink: InfluxSink
) -> None:
    push(run, sink)

    rows = influx.servers.query("SELECT accuracy FROM fl_round WHERE round_number = 12", influx.database)
    refused = influx.servers.query("SELECT sum(count) FROM fl_refusal WHERE round_number = 12", influx.database)
    assert [row["accuracy"] for row in rows] == [1]
    assert [row["sum"] for row in refused] == [0]


def test_nothing_is_counted_twice_when_everything_is_pushed_again(
    influx: Influx, run: RunFolder, sink: InfluxSink
) -> None:
    push(run, sink)
    before = stored_points(influx.servers, influx.database)

    again = push(run, sink)
    everything = push(run, sink, everything=True)

    assert (again.points_shipped, everything.points_shipped) == (0, len(before) + 2)
    assert stored_points(influx.servers, influx.database) == before
    assert count_points(influx.servers, influx.database) == len(before)


def test_every_field_has_its_documented_type_when_stored(influx: Influx, run: RunFolder, sink: InfluxSink) -> None:
    push(run, sink)

    for measurement in MEASUREMENTS:
        rows = influx.servers.query(f"SHOW FIELD KEYS FROM {measurement.name}", influx.database)
        stored = {row["fieldKey"]: row["fieldType"] for row in rows}
        assert stored == {field.name: TYPES[field.type] for field in measurement.fields}
        tags = influx.servers.query(f"SHOW TAG KEYS FROM {measurement.name}", influx.database)
        assert {row["tagKey"] for row in tags} == measurement.tags.keys()


def test_progress_is_told_after_every_batch_when_pushing(influx: Influx, run: RunFolder) -> None:
    sink = InfluxSink(influx.settings.model_copy(update={"batch_size": 20}))
    seen: list[ShippingStatus] = []

    total = push(run, sink, seen.append)

    sink.close()
    assert len(seen) == 4
    assert [status.records_waiting for status in seen] == sorted((s.records_waiting or 0 for s in seen), reverse=True)
    assert seen[-1] == total


def test_retention_policy_is_written_when_bucket_names_one(influx: Influx) -> None:
    influx.servers.query(f'CREATE RETENTION POLICY "weeks" ON "{influx.database}" DURATION INF REPLICATION 1', "")
    sink = InfluxSink(influx.settings.model_copy(update={"bucket": f"{influx.database}/weeks"}))

    sink.write(points(round_record()))

    sink.close()
    assert influx.servers.query("SELECT accuracy FROM weeks.fl_round", influx.database)[0]["accuracy"] == 0.875
    assert influx.servers.query("SELECT accuracy FROM autogen.fl_round", influx.database) == []


def test_user_and_password_are_accepted_when_server_knows_no_tokens(influx: Influx, tmp_path: Path) -> None:
    write_secret(tmp_path / "password", WRITER[1])
    settings = InfluxSettings(
        url=influx.settings.url, bucket=influx.database, user=WRITER[0], password_file=tmp_path / "password"
    )
    sink = InfluxSink(settings)

    sink.write(points(round_record()))

    sink.close()
    assert count_points(influx.servers, influx.database) == 2


def test_refusal_says_token_when_token_is_wrong(influx: Influx, tmp_path: Path) -> None:
    error = refusal_of(influx.settings.model_copy(update={"token_file": tmp_path / "wrong"}))

    assert "401: unauthorized access. Check influx.token_file" in str(error)
    assert not error.mends_itself


def test_refusal_says_password_when_password_is_wrong(influx: Influx, tmp_path: Path) -> None:
    update = {"token_file": None, "user": READER[0], "password_file": tmp_path / "wrong"}

    assert "influx.password_file" in str(refusal_of(influx.settings.model_copy(update=update)))


def test_refusal_says_right_when_token_may_only_read(influx: Influx, tmp_path: Path) -> None:
    error = refusal_of(influx.settings.model_copy(update={"token_file": tmp_path / READ_TOKEN}))

    assert f'403: "reader" user is not authorized to write to database "{influx.database}". Give the' in str(error)
    assert not error.mends_itself


def test_refusal_says_bucket_when_bucket_does_not_exist(influx: Influx) -> None:
    error = refusal_of(influx.settings.model_copy(update={"bucket": "nowhere"}))

    assert "404: database not found: \"nowhere\". Create the bucket 'nowhere'" in str(error)
    assert not error.mends_itself


def test_refusal_names_the_field_when_its_type_conflicts(influx: Influx, sink: InfluxSink) -> None:
    [good] = points(device_record())
    sink.write([good])

    with pytest.raises(SinkError) as caught:
        sink.write([Point(good.measurement, good.tags, {"train_s": "three"}, good.time_ns)])

    assert '400: partial write: field type conflict: input field "train_s"' in str(caught.value)
    assert not caught.value.mends_itself


def test_points_pass_in_smaller_writes_when_proxy_limits_their_size(influx: Influx, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "large", "run-1", {})
    with run.lock():
        for number in range(1, 1001):
            run.append(device_record(number))
    sink = InfluxSink(influx.settings.model_copy(update={"batch_size": 1000}))  # some 400 kB; nginx takes 256

    push(run, sink)

    sink.close()
    assert count_points(influx.servers, influx.database) == 1000


def test_no_secret_is_told_when_server_refuses(influx: Influx, tmp_path: Path) -> None:
    write_secret(tmp_path / "secret", "sesame-open")

    error = refusal_of(influx.settings.model_copy(update={"token_file": tmp_path / "secret"}))

    assert "sesame" not in str(error)


def test_certificate_is_checked_against_our_authority_when_server_has_tls(influx: Influx, tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path / "ours", "ours"), Authority(tmp_path / "theirs", "theirs")
    identity = ours.issue("metrics", server=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate_file, identity.key_file)
    with FlakyProxy(influx.servers.url, tls=context) as proxy:
        settings = influx.settings.model_copy(update={"url": proxy.url, "ca": ours.ca_file})
        sink = InfluxSink(settings)
        sink.write(points(round_record()))
        sink.close()

        error = refusal_of(settings.model_copy(update={"ca": theirs.ca_file}))

    assert count_points(influx.servers, influx.database) == 2
    assert "Set influx.ca" in str(error)
    assert not error.mends_itself


def test_victoria_metrics_holds_every_number_once_when_run_was_pushed_twice(
    victoria_metrics: VictoriaMetrics, run: RunFolder
) -> None:
    sink = InfluxSink(InfluxSettings(url=victoria_metrics.url, bucket="any"))
    push(run, sink)
    push(run, sink, everything=True)
    sink.close()

    accuracies = victoria_metrics.export("fl_round_accuracy")
    trained = victoria_metrics.export('fl_device_train_s{agent_id="pi-2"}')

    numbers = [number for number in range(1, 13) if number != 4]
    # Of round 12, which was recorded twice with different values, it keeps one; which, it does not say.
    assert [sample.value for sample in accuracies[:-1]] == pytest.approx([number / 13 for number in numbers[:-1]])
    assert [sample.time_ms for sample in accuracies] == [round((STARTED_AT + 10 * number) * 1000) for number in numbers]
    assert [sample.value for sample in trained] == [3.0] * 12
