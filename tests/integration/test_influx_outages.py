"""A real InfluxDB is stopped, slow, failing or full while a real run goes on: no round waits for it, and in the end it
has every point once.

The run's parts are real processes; the outage begins, or ends, while the coordinator stands still before the second
round. A full InfluxDB is one whose folder is on a small file system without a free block.
"""

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from coordinator.run_folder import RunFolder
from tests.integration.federation import RUN_ID
from tests.integration.flaky_http import PASS, SLOW, FlakyProxy
from tests.integration.influx_servers import WRITE_TOKEN, InfluxServers, ServerMissingError
from tests.integration.phased_federation import (
    ROUNDS,
    PhasedFederation,
    check_models,
    phased_federation,
    undisturbed_models,
)
from tests.integration.read_back import count_points, expected_points, stored_points
from tests.integration.small_disk import NoMountError, SmallDisk
from tests.secret_files import write_secret

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Metrics(NamedTuple):
    """InfluxDB on a disk of its own, with an empty database, behind a proxy that answers as told."""

    servers: InfluxServers
    disk: SmallDisk
    database: str
    proxy: FlakyProxy


class Outage(NamedTuple):
    """What begins and ends it."""

    begin: Callable[[Metrics], None]
    end: Callable[[Metrics], None]


def answering(behaviour: str | int) -> Callable[[Metrics], None]:
    """From now on the proxy does this with everything."""

    def tell(metrics: Metrics) -> None:
        metrics.proxy.always = behaviour

    return tell


def free_and_restart(metrics: Metrics) -> None:
    """InfluxDB 1.x goes on refusing what it cannot write to a file that once had no room, until it is restarted."""
    metrics.disk.make_room()
    metrics.servers.stop_database()
    metrics.servers.start_database()


OUTAGES = {
    "stopped": Outage(lambda it: it.servers.stop_database(), lambda it: it.servers.start_database()),
    "failing": Outage(answering(503), answering(PASS)),
    "slow": Outage(answering(SLOW), answering(SLOW)),
    "full": Outage(lambda it: it.disk.fill(), free_and_restart),
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[InfluxServers, SmallDisk]]:
    """Where a server is missing, or nothing can be mounted, the tests are skipped, but in CI they fail."""
    folder = tmp_path_factory.mktemp("influx")
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(SmallDisk(folder))
            servers = stack.enter_context(InfluxServers(folder))
        except (ServerMissingError, NoMountError) as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))
        yield servers, disk


@pytest.fixture
def metrics(servers: tuple[InfluxServers, SmallDisk]) -> Iterator[Metrics]:
    """All well."""
    influx, disk = servers
    disk.make_room()
    influx.start_database()
    database = f"test_{uuid.uuid4().hex[:12]}"
    influx.create_database(database)
    with FlakyProxy(influx.url) as proxy:
        yield Metrics(influx, disk, database, proxy)


@pytest.fixture
def federation(mosquitto_program: str, tmp_path: Path, metrics: Metrics) -> Iterator[PhasedFederation]:
    """Not started; ships its metrics."""
    assert mosquitto_program
    token = write_secret(tmp_path / "token", WRITE_TOKEN)
    with phased_federation(tmp_path) as federation:
        with federation.config.open("a") as config:
            config.write(
                f'[influx]\nurl = "{metrics.proxy.url}"\nbucket = "{metrics.database}"\ntoken_file = "{token}"\n'
                "timeout_s = 60\n"
            )
        yield federation


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The digests of the global model after each round when nothing happens."""
    return undisturbed_models(tmp_path_factory.mktemp("undisturbed"))


def push(federation: PhasedFederation) -> None:
    """What the run's last words name."""
    command = [*federation.coordinator.command, "metrics", "push", RUN_ID, "--runs", str(federation.runs)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr


def check_every_point_is_there_once(federation: PhasedFederation, metrics: Metrics) -> None:
    expected = expected_points(RunFolder.open(federation.runs, RUN_ID))
    assert stored_points(metrics.servers, metrics.database) == expected
    assert count_points(metrics.servers, metrics.database) == len(expected)


@pytest.mark.parametrize("how", OUTAGES)
def test_run_ends_without_influxdb_and_every_point_is_there_once_when_it_is_pushed(
    federation: PhasedFederation, undisturbed: list[str], metrics: Metrics, how: str
) -> None:
    coordinator = federation.start_until("announcement")
    OUTAGES[how].begin(metrics)
    answers = metrics.proxy.answers
    coordinator.go_on()

    rounds = federation.finish()

    check_models(federation, rounds, undisturbed)
    assert f"coordinator metrics push {RUN_ID}" in coordinator.log()
    if how == "slow":  # each answer takes half a minute: no round has waited for one
        assert metrics.proxy.answers < answers + ROUNDS
    if how == "full":
        assert "Make room on the server's disk" in coordinator.log()

    OUTAGES[how].end(metrics)
    push(federation)
    check_every_point_is_there_once(federation, metrics)


@pytest.mark.parametrize("how", ["stopped", "failing", "full"])
def test_every_point_is_there_once_when_influxdb_comes_back_in_mid_run(
    federation: PhasedFederation, undisturbed: list[str], metrics: Metrics, how: str
) -> None:
    OUTAGES[how].begin(metrics)
    coordinator = federation.start_until("announcement")
    OUTAGES[how].end(metrics)
    coordinator.go_on()

    rounds = federation.finish()

    check_models(federation, rounds, undisturbed)
    assert "metrics stay in the run's folder for now" in coordinator.log()
    push(federation)
    check_every_point_is_there_once(federation, metrics)
