"""Shipping to a real server that is down, slow, refusing or restarted, by processes that are killed: no point is lost
and none is there twice."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coordinator.influx import InfluxSettings, InfluxSink
from coordinator.run_folder import RunFolder
from coordinator.shipping import Pace, Shipper, push
from schemas.metrics import Point
from tests.integration.conftest import Influx
from tests.integration.flaky_http import LOSE_ANSWER, PASS, STALL, FlakyProxy
from tests.integration.influx_servers import WRITE_TOKEN, WRITER, free_port, stopped, wait_until
from tests.integration.read_back import count_points, expected_points, stored_points
from tests.kill_points import survive_every_kill
from tests.sample_records import device_record, round_record

FAST = Pace(first_retry_s=0.01, longest_retry_s=0.05, refused_retry_s=0.05, idle_s=0.05)
PATIENT = Pace(first_retry_s=3600, longest_retry_s=3600, refused_retry_s=3600, idle_s=3600)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunFolder]:
    """A run of which two rounds are recorded, and more can be."""
    folder = RunFolder.create(tmp_path / "runs", "run-1", {})
    with folder.lock():
        record_rounds(folder, 1, 2)
        yield folder


@pytest.fixture
def proxy(influx: Influx) -> Iterator[FlakyProxy]:
    with FlakyProxy(influx.servers.url) as proxy:
        yield proxy


Start = Callable[..., Shipper]


@pytest.fixture
def start(run: RunFolder) -> Iterator[Start]:
    """Starts shippers that are closed at the end."""
    started: list[Shipper] = []

    def start(settings: InfluxSettings, pace: Pace = FAST) -> Shipper:
        shipper = Shipper(run, InfluxSink(settings), pace)
        started.append(shipper)
        shipper.start()
        return shipper

    yield start
    for shipper in started:
        shipper.close()


def record_rounds(run: RunFolder, first: int, last: int) -> None:
    for number in range(first, last + 1):
        for agent_id in ("pi-1", "pi-2"):
            run.append(device_record(number, agent_id))
        run.append(round_record(number, accuracy=number / (last + 1)))


def through(influx: Influx, proxy: FlakyProxy, **changes: object) -> InfluxSettings:
    return influx.settings.model_copy(update={"url": proxy.url, **changes})


def wait_until_shipped(shipper: Shipper) -> None:
    wait_until(lambda: shipper.status().records_waiting == 0, "everything is shipped")


def wait_for_error(shipper: Shipper, text: str) -> None:
    wait_until(lambda: text in shipper.status().error, f"the error says {text!r}")


def assert_exact(influx: Influx, run: RunFolder) -> None:
    expected = expected_points(run)
    assert stored_points(influx.servers, influx.database) == expected
    assert count_points(influx.servers, influx.database) == len(expected)


def test_records_are_shipped_when_shipper_is_woken(influx: Influx, run: RunFolder, start: Start) -> None:
    shipper = start(influx.settings, PATIENT)
    wait_until_shipped(shipper)

    record_rounds(run, 3, 4)
    shipper.wake()

    wait_until_shipped(shipper)
    assert_exact(influx, run)


def test_records_are_shipped_when_nobody_wakes_the_shipper(influx: Influx, run: RunFolder, start: Start) -> None:
    shipper = start(influx.settings)
    record_rounds(run, 3, 4)

    wait_until_shipped(shipper)

    assert_exact(influx, run)


def test_all_is_shipped_when_server_comes_up_late(influx: Influx, run: RunFolder, start: Start) -> None:
    port = free_port()
    settings = influx.settings.model_copy(update={"url": f"http://127.0.0.1:{port}"})
    shipper = start(settings)
    wait_for_error(shipper, "Connection refused")
    record_rounds(run, 3, 4)

    with FlakyProxy(influx.servers.url, port):
        wait_until_shipped(shipper)
        shipper.close()

    assert_exact(influx, run)


def test_all_is_shipped_when_database_restarts_in_between(influx: Influx, run: RunFolder, start: Start) -> None:
    shipper = start(influx.settings)
    wait_until_shipped(shipper)
    with stopped(influx.servers):
        record_rounds(run, 3, 4)
        wait_for_error(shipper, "502: Bad Gateway")
        assert shipper.status().records_waiting == 6
    record_rounds(run, 5, 6)

    wait_until_shipped(shipper)

    assert shipper.status().error == ""
    assert_exact(influx, run)


@pytest.mark.parametrize(
    "plan",
    [
        [500, 503, PASS, 503, 429],
        [LOSE_ANSWER, PASS, LOSE_ANSWER],
        [STALL, PASS, STALL, LOSE_ANSWER, 500],
        [413, PASS, 413],
    ],
    ids=["errors", "answers lost", "slow", "too large"],
)
def test_all_is_shipped_once_when_server_fails_for_a_while(
    influx: Influx, run: RunFolder, start: Start, proxy: FlakyProxy, plan: list[str | int]
) -> None:
    proxy.plan.extend(plan)

    shipper = start(through(influx, proxy, timeout_s=0.25, batch_size=4))

    wait_until_shipped(shipper)
    assert not proxy.plan
    assert_exact(influx, run)


def take_database_away(influx: Influx, _tokens: Path) -> None:
    influx.servers.query(f'DROP DATABASE "{influx.database}"', "")


def give_database(influx: Influx, _tokens: Path) -> None:
    influx.servers.create_database(influx.database)


def take_right_away(influx: Influx, _tokens: Path) -> None:
    influx.servers.query(f'REVOKE ALL ON "{influx.database}" FROM "{WRITER[0]}"', "")


def give_right(influx: Influx, _tokens: Path) -> None:
    influx.servers.query(f'GRANT WRITE ON "{influx.database}" TO "{WRITER[0]}"', "")


def spoil_token(_influx: Influx, tokens: Path) -> None:
    (tokens / WRITE_TOKEN).write_text("wrong")


def mend_token(_influx: Influx, tokens: Path) -> None:
    (tokens / WRITE_TOKEN).write_text(WRITE_TOKEN)


@pytest.mark.parametrize(
    ("spoil", "status", "mend"),
    [
        (spoil_token, "401", mend_token),
        (take_right_away, "403", give_right),
        (take_database_away, "404", give_database),
    ],
)
def test_metrics_wait_until_a_person_mends_it_when_server_refuses(
    influx: Influx,
    run: RunFolder,
    start: Start,
    tmp_path: Path,
    spoil: Callable[[Influx, Path], None],
    status: str,
    mend: Callable[[Influx, Path], None],
) -> None:
    spoil(influx, tmp_path)
    shipper = start(influx.settings)
    wait_for_error(shipper, f"answered {status}")
    assert not run.cursor_path.exists()
    assert shipper.status().records_waiting == 6

    mend(influx, tmp_path)

    wait_until_shipped(shipper)
    assert_exact(influx, run)


def test_later_metrics_wait_behind_a_type_conflict_when_one_is_there(
    influx: Influx, run: RunFolder, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = InfluxSink(influx.settings)
    time_ns = next(iter(expected_points(run)))[2]
    foreign.write([Point("fl_device", {"agent_id": "stranger"}, {"train_s": "three"}, time_ns)])
    foreign.close()

    shipper = start(influx.settings)

    wait_for_error(shipper, "field type conflict")
    assert not run.cursor_path.exists()
    assert "use a bucket of its own, or remove the measurement" in shipper.status().error
    assert len([line for line in caplog.messages if "metrics stay in the run's folder" in line]) == 1


def test_close_gives_up_and_names_the_command_when_server_is_silent(
    influx: Influx, run: RunFolder, start: Start, proxy: FlakyProxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.plan.extend([STALL] * 100)
    shipper = start(through(influx, proxy, timeout_s=60))
    wait_until(lambda: proxy.requests > 0, "the server is asked")

    status = shipper.close(timeout_s=0.05)

    assert status.records_waiting == 6
    assert "6 records wait" in caplog.text
    assert "coordinator metrics push run-1" in caplog.text


def test_close_ships_what_was_recorded_last_when_server_answers(
    influx: Influx, run: RunFolder, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    shipper = start(influx.settings, PATIENT)
    wait_until_shipped(shipper)
    record_rounds(run, 3, 4)

    with caplog.at_level(logging.WARNING, "coordinator"):
        status = shipper.close(timeout_s=30)

    assert (status.records_waiting, status.error, caplog.text) == (0, "", "")
    assert_exact(influx, run)


def test_push_ships_the_rest_when_run_ended_without_a_server(influx: Influx, run: RunFolder, start: Start) -> None:
    shipper = start(influx.settings.model_copy(update={"url": f"http://127.0.0.1:{free_port()}"}))
    wait_for_error(shipper, "Connection refused")
    assert shipper.close().records_waiting == 6
    sink = InfluxSink(influx.settings)

    status = push(run, sink)

    sink.close()
    assert status.records_waiting == 0
    assert_exact(influx, run)


def test_counts_are_exact_when_pushing_is_killed_at_any_moment(influx: Influx, run: RunFolder) -> None:
    def push_in_small_batches() -> None:
        push(run, InfluxSink(influx.settings.model_copy(update={"batch_size": 4})))

    counts: list[int] = []
    deaths = survive_every_kill(
        push_in_small_batches, lambda: counts.append(count_points(influx.servers, influx.database))
    )

    assert deaths > 10
    assert counts == sorted(counts)
    assert_exact(influx, run)


COORDINATOR = """
import sys
from pathlib import Path
from coordinator.influx import InfluxSettings, InfluxSink
from coordinator.run_folder import RunFolder
from coordinator.shipping import Pace, Shipper
from tests.integration.test_influx_shipping import FAST, record_rounds

run = RunFolder.open(Path(sys.argv[1]), "run-1")
settings = InfluxSettings.model_validate_json(sys.argv[2])
first = len(run.records(("round",))) + 1
with run.lock():
    shipper = Shipper(run, InfluxSink(settings), FAST)
    shipper.start()
    for number in range(first, 100_000):
        record_rounds(run, number, number)
        shipper.wake()
        print(shipper.status().points_shipped, flush=True)
"""


def test_counts_are_exact_when_coordinators_are_killed_and_resumed(influx: Influx, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "runs", "run-1", {})
    command = [sys.executable, "-c", COORDINATOR, str(run.path.parent), influx.settings.model_dump_json()]
    for points_until_death in (1, 40, 171):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as coordinator:
            _read_until_shipped(coordinator, points_until_death)
            os.kill(coordinator.pid, signal.SIGKILL)

    sink = InfluxSink(influx.settings)
    push(run, sink)
    sink.close()

    assert_exact(influx, run)


def _read_until_shipped(coordinator: subprocess.Popen[bytes], points: int) -> None:
    assert coordinator.stdout is not None
    for line in coordinator.stdout:
        if int(line) >= points:
            return
    raise AssertionError("the coordinator ended by itself")
