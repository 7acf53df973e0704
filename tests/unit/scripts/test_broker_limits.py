"""The playbook gets the demo's limits, on a machine that has nothing but Python."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

from mosquitto.sizing import limits_for

ROOT = Path(__file__).parents[3]


def ask(*numbers: int) -> subprocess.CompletedProcess[str]:
    script = str(ROOT / "scripts" / "broker_limits.py")
    # -S: without site-packages, as on a laptop with Ansible alone.
    command = [sys.executable, "-S", script, *map(str, numbers)]
    return subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}, check=False)


def test_limits_are_those_of_the_demo_when_nothing_is_installed() -> None:
    done = ask(190_000, 300, 8_388_608)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == dataclasses.asdict(limits_for(190_000, 300, 8_388_608))


def test_impossible_numbers_are_refused_in_one_line_when_asked_for() -> None:
    done = ask(190_000, 0, 8_388_608)

    assert done.returncode != 0
    assert done.stderr.splitlines() == ["broker_limits: num_agents = 0: the broker's limits need a positive number"]
