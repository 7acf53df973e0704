"""Processes that should not be there, or have the wrong time, beside a federation on a real broker."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.commands.conversation import EXIT_ABORTED, EXIT_STOPPED
from coordinator.run_folder import RunFolder
from mosquitto.broker import PrivateBroker
from tests.integration.echo_federation import EchoFederation
from tests.integration.federation import RUN_ID, Process

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def federation(mosquitto_program: str, tmp_path: Path) -> Iterator[EchoFederation]:
    """Three honest agents and a coordinator, not started."""
    assert mosquitto_program
    users = ["coordinator", "room-1", "room-2", "room-3"]
    with (
        PrivateBroker(tmp_path / "broker", {user: f"secret-{user}" for user in users}) as broker,
        EchoFederation(tmp_path, broker) as federation,
    ):
        yield federation


def test_second_coordinator_ends_when_one_is_there_and_neither_the_first_nor_its_agents_notice(
    federation: EchoFederation,
) -> None:
    federation.start()
    federation.wait_until(lambda: federation.coordinator_is_ready() and bool(federation.rounds()), "a round", 240.0)
    other = federation.folder / "other.toml"
    # Were it to speak before the federation is its own, it would refuse each of these agents.
    not_these = '[rounds]\nallowed_agents = ["room-7", "room-8", "room-9"]'
    settings = federation.config.read_text().replace(RUN_ID, "another-run")
    other.write_text(settings.replace("[rounds]", not_these))

    command = [sys.executable, "-m", "coordinator.cli", "run", str(other)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)

    assert done.returncode == EXIT_ABORTED
    assert "another coordinator" in done.stdout + done.stderr
    assert not (federation.runs / "another-run" / "checkpoints" / "round-000001.safetensors").exists()
    federation.wait_for_rounds(2)
    assert "refused" not in done.stdout + done.stderr
    assert "refused" not in (federation.folder / "agents.log").read_text()


def test_one_of_two_goes_on_when_a_copy_of_a_run_is_resumed_elsewhere_under_the_same_client_id(
    federation: EchoFederation,
) -> None:
    federation.start()
    federation.wait_until(lambda: federation.coordinator_is_ready() and bool(federation.rounds()), "a round", 240.0)
    elsewhere = federation.folder / "elsewhere"
    federation.coordinator.signal(signal.SIGSTOP)  # files come and go while it runs
    shutil.copytree(federation.runs, elsewhere)
    federation.coordinator.signal(signal.SIGCONT)
    log = federation.folder / "copy.log"
    copy = Process("copy", [sys.executable, "-m", "coordinator.cli", "resume", RUN_ID, "--runs", str(elsewhere)], log)
    copy.start()
    try:
        both = (federation.coordinator, copy)
        federation.wait_until(lambda: any(one.exit_code is not None for one in both), "one of them to end", 180.0)
        copy_ended = copy.exit_code is not None
        ended, left = (copy, federation.coordinator) if copy_ended else both
        # The first one stays, unless it was away so long that the copy took over.
        assert ended.exit_code == (EXIT_ABORTED if copy_ended else EXIT_STOPPED)
        assert "another coordinator" in ended.log()
        going_on = RunFolder.open(federation.runs if copy_ended else elsewhere, RUN_ID)
        have = len(going_on.records(("round",)))
        federation.wait_until(lambda: len(going_on.records(("round",))) > have + 1, "two more rounds", 180.0)
        assert left.exit_code is None
    finally:
        copy.cleanup()


def test_rounds_go_on_when_the_agents_clock_is_a_day_ahead_and_runs_too_fast(
    federation: EchoFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = shutil.which("faketime")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("install Debian's faketime")
        pytest.skip("Debian's faketime is not installed")
    library = subprocess.run(
        [program, "-f", "+1d x100", "printenv", "LD_PRELOAD"], capture_output=True, text=True, check=True
    )
    with monkeypatch.context() as agents_only:
        agents_only.setenv("LD_PRELOAD", library.stdout.strip())
        agents_only.setenv("FAKETIME", "+1d x100")
        agents_only.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        federation.start_agents()
    federation.coordinator.start("run", str(federation.config))

    federation.wait_until(
        lambda: federation.coordinator_is_ready() and len(federation.rounds()) >= 3, "three rounds", 240.0
    )
    assert all(record.accepted == ("room-1", "room-2", "room-3") for record in federation.rounds())
