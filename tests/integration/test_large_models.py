"""Models that do not fit one packet travel in chunks, both ways, over a real broker."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.proxy import Proxy
from mosquitto.broker import PrivateBroker
from mosquitto.sizing import limits_for
from tests.integration.federation import Federation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MIB = 1024 * 1024
BULKY = """
import torch
from torch import nn

class Bulky(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(784, 10)
        self.bulk = nn.Parameter(torch.zeros({numbers}))

    def forward(self, images):
        return self.fc(images.flatten(1))
"""
SETTINGS = """
[training]
model = "bulky:Bulky"
model_path = "models"
local_batches = 3
[rounds]
count = {rounds}
min_agents = {agents}
min_updates = {agents}
deadline_s = 500
chunk_kib = {chunk_kib}
[data]
dataset = "none"
"""


@dataclass(frozen=True)
class Bulk:
    """A run whose model has so many bytes, in chunks of so many KiB."""

    model_bytes: int
    chunk_kib: int
    agents: int
    rounds: int


@contextmanager
def bulky_federation(folder: Path, bulk: Bulk) -> Iterator[Federation]:
    """A broker for such a model, its agents and its coordinator, not started."""
    (folder / "models").mkdir()
    (folder / "models" / "bulky.py").write_text(BULKY.format(numbers=bulk.model_bytes // 4))
    users = ["coordinator", *(f"room-{i}" for i in range(1, bulk.agents + 1))]
    passwords = {user: f"password of {user}" for user in users}
    limits = limits_for(bulk.model_bytes + MIB, bulk.agents, bulk.chunk_kib * 1024)
    settings = SETTINGS.format(agents=bulk.agents, rounds=bulk.rounds, chunk_kib=bulk.chunk_kib)
    with (
        PrivateBroker(folder / "broker", passwords, limits=limits) as broker,
        Federation(folder, broker, bulk.agents, settings) as federation,
    ):
        for agent in federation.agents:
            config = folder / agent / "agent.toml"
            config.write_text('model_path = "../models"\n' + config.read_text())
        for config in folder.rglob("*.toml"):
            # Summing up 300 MB takes a coordinator longer than the keep-alive of tests that lose connections.
            config.write_text(config.read_text().replace("keep_alive_s = 5", "keep_alive_s = 60"))
        yield federation


@pytest.mark.parametrize(
    "bulk",
    [
        Bulk(model_bytes=31_000_000, chunk_kib=1024, agents=2, rounds=2),
        Bulk(model_bytes=300_000_000, chunk_kib=8192, agents=1, rounds=1),
    ],
    ids=["31 MB", "300 MB"],
)
def test_rounds_close_when_the_model_is_many_times_a_packet(mosquitto_program: str, tmp_path: Path, bulk: Bulk) -> None:
    assert mosquitto_program
    with bulky_federation(tmp_path, bulk) as federation:
        federation.start()
        rounds = federation.finish()
    assert [len(record.accepted) for record in rounds] == [bulk.agents] * bulk.rounds
    assert len({record.model_sha256 for record in rounds}) == bulk.rounds
    assert min(record.payload_bytes_down for record in rounds) > bulk.agents * bulk.model_bytes


def test_transfers_go_on_where_they_stopped_when_the_line_breaks_again_and_again(
    mosquitto_program: str, tmp_path: Path
) -> None:
    assert mosquitto_program
    bulk = Bulk(model_bytes=31_000_000, chunk_kib=1024, agents=1, rounds=1)
    with bulky_federation(tmp_path, bulk) as federation, Proxy(federation.broker.port) as line:
        config = tmp_path / "room-1" / "agent.toml"
        config.write_text(config.read_text().replace(json.dumps(federation.broker.port), str(line.port)))
        federation.start()
        _cut_twice(federation, line, "down", lambda: line.bytes_down)
        _cut_twice(federation, line, "up", lambda: line.bytes_up)
        (record,) = federation.finish()
        passed = (line.bytes_down, line.bytes_up)
        losses = federation.agents["room-1"].log().count("not connected: ")
    assert record.accepted == ("room-1",)
    assert losses >= 4
    # Each break costs the few chunks on their way, never the transfer.
    assert all(bulk.model_bytes < count < 1.7 * bulk.model_bytes for count in passed)


def _cut_twice(federation: Federation, line: Proxy, way: str, passed: Callable[[], int]) -> None:
    """Break the line after one third and after two thirds of a blob of 30 MB."""
    for at in (10_000_000, 20_000_000):
        federation.wait_until(lambda at=at: passed() > at, f"{at} bytes on the way {way}", 300)  # type: ignore[misc]
        line.cut()
