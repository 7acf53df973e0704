"""The demo's agents are told to end, and what does not end, or ends badly, is named with the end of its log."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator import demo_agents
from coordinator.demo_agents import AgentProcesses
from schemas.errors import FederationError

SLEEPER = """
import sys, time
sys.stderr.write("awake")
sys.stderr.flush()
time.sleep(600)
"""
DEAF_SLEEPER = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SLEEPER}"


@pytest.fixture
def agents() -> Iterator[AgentProcesses]:
    processes = AgentProcesses()
    yield processes
    processes.kill()


def start(agents: AgentProcesses, folder: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Start a program in an agent's place, and wait for its first word."""
    script, interpreter = folder / "program.py", folder / "python"
    script.write_text(program)
    interpreter.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}"\n')
    interpreter.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    agents.start("room-1", folder / "agent.toml")
    while "awake" not in (folder / "agent.log").read_text():
        time.sleep(0.01)


def test_agent_that_does_not_end_is_named(
    agents: AgentProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_agents, "STOP_LIMIT_S", 0.1)
    start(agents, tmp_path, monkeypatch, DEAF_SLEEPER)

    with pytest.raises(FederationError, match=r"agent room-1 did not end within 0.1 s; the end of .*agent.log: awake"):
        agents.stop()


def test_agent_that_ends_without_its_traffic_has_failed(
    agents: AgentProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(agents, tmp_path, monkeypatch, SLEEPER)

    with pytest.raises(FederationError, match=r"agent room-1 failed; the end of .*agent.log: awake"):
        agents.stop()
