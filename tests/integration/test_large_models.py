"""Models that do not fit one packet travel in chunks, both ways, over a real broker."""

from pathlib import Path

import pytest

from mosquitto.broker import PrivateBroker
from mosquitto.sizing import limits_for
from tests.integration.federation import Federation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

MODEL_BYTES = 31_000_000
CHUNK_KIB = 1024
BULKY = """
import torch
from torch import nn

class Bulky(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(784, 10)
        self.bulk = nn.Parameter(torch.zeros(7_500_000))

    def forward(self, images):
        return self.fc(images.flatten(1))
"""
SETTINGS = f"""
[training]
model = "bulky:Bulky"
model_path = "models"
local_batches = 3
[rounds]
count = 2
min_agents = 2
min_updates = 2
deadline_s = 120
chunk_kib = {CHUNK_KIB}
[data]
dataset = "none"
"""


def test_rounds_close_when_the_model_is_thirty_times_a_packet(mosquitto_program: str, tmp_path: Path) -> None:
    assert mosquitto_program
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "bulky.py").write_text(BULKY)
    passwords = {user: f"password of {user}" for user in ("coordinator", "room-1", "room-2")}
    limits = limits_for(MODEL_BYTES, 2, CHUNK_KIB * 1024)
    with (
        PrivateBroker(tmp_path / "broker", passwords, limits=limits) as broker,
        Federation(tmp_path, broker, 2, SETTINGS) as federation,
    ):
        for agent in federation.agents:
            config = tmp_path / agent / "agent.toml"
            config.write_text('model_path = "../models"\n' + config.read_text())
        federation.start()
        rounds = federation.finish()
    assert [record.accepted for record in rounds] == [("room-1", "room-2")] * 2
    assert len({record.model_sha256 for record in rounds}) == 2
    assert min(record.payload_bytes_down for record in rounds) > 2 * 30_000_000
