"""Lines on which nothing comes, trainings that outlast the keep-alive, and a clock that jumps: no round is lost."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.federation import Process
from tests.integration.halting_party import KEEP_ALIVE_S
from tests.integration.phased_federation import (
    AGENT,
    STRUCK,
    PhasedFederation,
    check_models,
    check_nothing_counted_twice,
    phased_federation,
    undisturbed_models,
)
from tests.integration.relay import Relay

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BATCHES = 4
LONG_MODEL = f"""
import time
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(784, 10)

    def forward(self, images):
        # Python's own work, which shares its lock with the thread that answers the broker.
        end_s = time.monotonic() + {10 * KEEP_ALIVE_S / BATCHES + 0.1}
        while time.monotonic() < end_s:
            pass
        return self.dense(images.flatten(1))

def net():
    return Net()
"""


@pytest.fixture
def federation(mosquitto_program: str, tmp_path: Path) -> Iterator[PhasedFederation]:
    """Not started."""
    assert mosquitto_program
    with phased_federation(tmp_path) as federation:
        yield federation


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The digests of the global model after each round when nothing happens."""
    return undisturbed_models(tmp_path_factory.mktemp("undisturbed"))


def change(file: Path, old: str, new: str) -> None:
    """Change a configuration."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize("phase", ["download", "training", "upload"])
def test_run_ends_as_if_nothing_had_happened_when_an_agents_line_is_half_open_in_a_phase(
    federation: PhasedFederation, undisturbed: list[str], phase: str
) -> None:
    with Relay(federation.broker.port) as relay:
        config = federation.folder / AGENT / "agent.toml"
        change(config, f"port = {federation.broker.port}", f"port = {relay.port}")
        agent = federation.start_until(phase)
        relay.suspend()
        agent.go_on()
        federation.wait_until_given_up(AGENT)
        federation.wait_until(lambda: "not connected" in agent.log(), "the agent to give up the line")
        relay.resume()
        rounds = federation.finish()
        assert agent.exit_code is None

    check_models(federation, rounds, undisturbed)
    check_nothing_counted_twice(federation, rounds)
    assert [event.agent_id for event in federation.events("agent-offline")] == [AGENT]


def test_agent_stays_connected_when_it_trains_for_ten_times_the_keep_alive(federation: PhasedFederation) -> None:
    models = federation.folder / "models"
    models.mkdir()
    (models / "long.py").write_text(LONG_MODEL)
    for old, new in (
        ("local_batches = 3", f'local_batches = {BATCHES}\nmodel = "long:net"\nmodel_path = "{models}"'),
        ("count = 3", "count = 1"),
        ("min_agents = 2", "min_agents = 1"),
        ("min_updates = 2", "min_updates = 1"),
        ('strategy = "scaffold"', 'strategy = "fedavg"'),
    ):
        change(federation.config, old, new)
    agent = federation.agents[AGENT]
    config = federation.folder / AGENT / "agent.toml"
    config.write_text(f'model_path = "{models}"\n{config.read_text()}')

    agent.start()
    federation.coordinator.start("run", str(federation.config))
    (record,) = federation.finish()

    assert (record.accepted, record.attempt) == ((AGENT,), 1)
    (device,) = federation.devices()
    assert device.report.train_s > 10 * KEEP_ALIVE_S
    assert "not connected" not in agent.log()
    assert "exceeded timeout" not in federation.broker.log()
    assert not federation.events("agent-offline")
    assert not federation.events("broker-lost")


def test_run_ends_as_if_nothing_had_happened_when_an_agents_clock_jumps_by_hours_in_every_round(
    federation: PhasedFederation, undisturbed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    jumps = federation.folder / "jumps"
    jumps.write_text("-9h\n")
    with monkeypatch.context() as this_agent_only:
        for name, value in faked_clock(jumps).items():
            this_agent_only.setenv(name, value)
        # A program of its own: one that is forked has its clock already.
        plain = federation.agents[AGENT]
        agent = Process(AGENT, plain.command, plain.log_file)
        agent.start()
    federation.agents[AGENT] = agent
    federation.coordinator.start("run", str(federation.config))
    federation.agents["room-1"].start()
    for number, jump in ((1, "+31h"), (STRUCK, "-55h")):
        federation.wait_until_training(AGENT, number)
        jumps.write_text(f"{jump}\n")
    rounds = federation.finish()

    check_models(federation, rounds, undisturbed)
    check_nothing_counted_twice(federation, rounds)
    dates = set(re.findall(r"^\d{4}-\d\d-\d\d", agent.log(), re.MULTILINE))
    assert len(dates) >= 2, "the clock did not jump"
    assert not federation.events("agent-offline")


def faked_clock(jumps: Path) -> dict[str, str]:
    """The environment of a program whose clock is as far off as the file says at the moment."""
    program = shutil.which("faketime")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("install Debian's faketime")
        pytest.skip("Debian's faketime is not installed")
    command = [program, "-f", "+0", "printenv", "LD_PRELOAD"]
    library = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(jumps),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
