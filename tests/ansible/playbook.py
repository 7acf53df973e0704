"""Runs Ansible as an operator would, on this machine, for the tests beside it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
ANSIBLE = ROOT / "ansible"
ROLES = ANSIBLE / "roles"
EXAMPLE_INVENTORY = ANSIBLE / "inventory.example.yml"


def run_playbook(playbook: Path, inventory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The end of one `ansible-playbook`, whatever it is."""
    program = Path(sys.executable).with_name("ansible-playbook")
    environment = os.environ | {
        "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"),
        "ANSIBLE_FORCE_COLOR": "0",
        "ANSIBLE_HOME": str(inventory.parent / ".ansible"),
    }
    command = [str(program), "-i", str(inventory), str(playbook), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)


def load(path: Path) -> Any:
    """A YAML file."""
    return yaml.safe_load(path.read_text())


def defaults() -> dict[str, Any]:
    """The knobs of all roles, with their defaults as they are written."""
    found: dict[str, Any] = {}
    for path in sorted(ROLES.glob("*/defaults/main.yml")):
        found |= load(path) or {}
    return found
