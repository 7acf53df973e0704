"""Runs with codecs over a real broker: the models of the simulation, and updates of as many bytes."""

import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from benchmarks.bytes import report_payload_bytes
from coordinator.config import RunConfig
from coordinator.run_folder import RunFolder
from coordinator.summary import reports_of, rounds_of
from mosquitto.broker import PrivateBroker
from schemas.records import DeviceRecord
from simulation.runner import simulate
from tests.integration.federation import RUN_ID, Federation, small_digits

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]

AGENTS = 3
WHOLE_MODEL_BYTES = 4 * 47_226
SETTINGS = f"""
[training]
local_batches = 2
batch_size = 16
strategy = "best"
learning_rate = 0.05
codec = "CODEC"
[rounds]
count = 4
min_agents = {AGENTS}
min_updates = {AGENTS}
deadline_s = 100
patience_s = 60
[data]
dataset = "none"
"""


@pytest.fixture(scope="module", params=["ternary:1/int4", "topk:0.02,int8/ternary:1.5"])
def settings(request: pytest.FixtureRequest) -> str:
    """Of a run with one of the codecs that presets do not use."""
    return SETTINGS.replace("CODEC", str(request.param))


@pytest.fixture
def federation(tmp_path: Path, mosquitto_program: str, settings: str) -> Iterator[Federation]:
    """Three agents and a coordinator with passwords, not started."""
    assert mosquitto_program
    users = ["coordinator", *(f"room-{i}" for i in range(1, AGENTS + 1))]
    with (
        PrivateBroker(tmp_path / "broker", {user: f"password of {user}" for user in users}) as broker,
        Federation(tmp_path, broker, AGENTS, settings) as federation,
    ):
        yield federation


def sent_bytes(devices: Iterable[DeviceRecord]) -> dict[tuple[str, int], int]:
    """Payload bytes that each agent sent in each round but the first, its report of the round before left out.

    Reports are as long as the digits of what was measured, and in the first round agents come one after the other.
    Bytes received are no round's for certain: where nothing is evaluated, the next model may come before the report.
    """
    by_round = {(device.agent_id, device.round_number): device for device in devices}
    return {
        (agent_id, number): device.report.payload_bytes_up - report_payload_bytes(by_round[agent_id, number - 1])
        for (agent_id, number), device in by_round.items()
        if number > 1
    }


def test_run_over_the_broker_has_the_models_and_the_bytes_of_the_simulation(
    federation: Federation, settings: str, tmp_path: Path
) -> None:
    runs = tmp_path / "simulated"
    config = RunConfig.model_validate(tomllib.loads(settings) | {"runs_folder": runs, "run_id": RUN_ID})
    simulate(config, {f"room-{i}": small_digits(i) for i in range(1, AGENTS + 1)})
    simulated = list(RunFolder.open(runs, RUN_ID).records())

    federation.start()
    closed = federation.finish()

    assert all(len(record.accepted) == AGENTS for record in closed)
    assert [record.model_sha256 for record in closed] == [record.model_sha256 for record in rounds_of(simulated)]
    assert sent_bytes(federation.devices()) == sent_bytes(reports_of(simulated))
    # Nobody was sent a whole model, not even the first.
    assert all(device.report.packet_bytes_down < WHOLE_MODEL_BYTES / 4 for device in federation.devices())
