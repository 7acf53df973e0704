"""Real metrics servers that the integration tests share; where one is missing they are skipped, but in CI they fail."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from coordinator.influx import InfluxSettings
from tests.integration.influx_servers import (
    READ_TOKEN,
    WRITE_TOKEN,
    InfluxServers,
    ServerMissingError,
    VictoriaMetrics,
    find_program,
)
from tests.integration.shipped_run import ShippedRun, drive
from tests.secret_files import write_secret


def _need(*programs: str) -> None:
    try:
        for program in programs:
            find_program(program)
    except ServerMissingError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def influx_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxServers]:
    """InfluxDB behind nginx, for the whole session."""
    _need("influxd", "nginx")
    with InfluxServers(tmp_path_factory.mktemp("influx")) as servers:
        yield servers


@pytest.fixture(scope="session")
def victoria_metrics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VictoriaMetrics]:
    """VictoriaMetrics, for the whole session: use a run id of your own."""
    _need("victoria-metrics")
    with VictoriaMetrics(tmp_path_factory.mktemp("victoria-metrics")) as server:
        yield server


@pytest.fixture(scope="session")
def shipped_run(
    influx_servers: InfluxServers, mosquitto_program: str, tmp_path_factory: pytest.TempPathFactory
) -> ShippedRun:
    """A real run, in its folder and on the server; only to be read."""
    assert mosquitto_program
    influx_servers.start_database()
    return drive(influx_servers, tmp_path_factory.mktemp("shipped-run"))


class Influx(NamedTuple):
    """The shared servers, running, with an empty database of this test's own and its settings."""

    servers: InfluxServers
    database: str
    settings: InfluxSettings


@pytest.fixture
def influx(influx_servers: InfluxServers, tmp_path: Path) -> Influx:
    """See `Influx`. A test may stop the database; the next one starts it again."""
    influx_servers.start_database()
    database = f"test_{uuid.uuid4().hex[:12]}"
    influx_servers.create_database(database)
    for token in (WRITE_TOKEN, READ_TOKEN, "wrong"):
        write_secret(tmp_path / token, f"{token}\n")
    settings = InfluxSettings(url=influx_servers.url, bucket=database, token_file=tmp_path / WRITE_TOKEN)
    return Influx(influx_servers, database, settings)
