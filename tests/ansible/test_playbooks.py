"""Playbooks are valid, and refuse what cannot work by saying what to do, before anything is changed."""

import hashlib
from pathlib import Path

import pytest
import yaml

from tests.ansible.playbook import ANSIBLE, EXAMPLE_INVENTORY, ROLES, load, run_playbook

PLAYBOOKS = [ANSIBLE / "site.yml", *sorted((ANSIBLE / "playbooks").glob("*.yml"))]

pytestmark = pytest.mark.timeout(300)

INVENTORY = """
all:
  vars:
    ansible_connection: local
    ansible_become: false
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
    federation_secrets: "{{ inventory_dir }}/secrets"
  children:
    influxdb: {hosts: {server: {}}}
"""

VENDOR = """
- hosts: influxdb
  become: false
  gather_facts: true
  roles: [{role: influxdb}]
"""


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda path: path.stem)
def test_playbook_is_valid_when_checked(playbook: Path) -> None:
    done = run_playbook(playbook, EXAMPLE_INVENTORY, "--syntax-check", "-e", "agent=pi1")

    assert done.returncode == 0, done.stderr


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """An inventory of this machine, and a playbook with the role influxdb alone."""
    (tmp_path / "inventory.yml").write_text(INVENTORY)
    (tmp_path / "vendor.yml").write_text(VENDOR)
    (tmp_path / "roles").symlink_to(ROLES)
    (tmp_path / "influxdb.deb").write_bytes(b"not really a package")
    return tmp_path


def run_vendor(site: Path, sha256: str) -> str:
    package = f"influxdb_package={site / 'influxdb.deb'} influxdb_package_sha256={sha256}"
    options = ("--check", "-e", "influxdb_source=vendor", "-e", package)
    done = run_playbook(site / "vendor.yml", site / "inventory.yml", *options)
    return " ".join((done.stdout + done.stderr).split())


def test_vendors_package_is_refused_when_its_checksum_differs(site: Path) -> None:
    assert "is not the file whose SHA-256 is" in run_vendor(site, "0" * 64)


def test_vendors_package_would_be_installed_when_its_checksum_is_right(site: Path) -> None:
    said = run_vendor(site, hashlib.sha256((site / "influxdb.deb").read_bytes()).hexdigest())

    assert "Bring the package file" in said
    assert "failed=0" in said, said


WORKING = {"edge_agent_takes_turns": True}


@pytest.mark.parametrize(
    ("setting", "batches"),
    [
        (WORKING, 4),
        (WORKING | {"edge_agent_batch": 2}, 2),
        (WORKING | {"edge_agent_batch": "100%"}, 1),
        ({"edge_agent_takes_turns": False}, 1),
        ({}, 1),
    ],
)
def test_devices_that_work_take_turns_in_batches_of_the_inventory_when_switched(
    tmp_path: Path, setting: dict[str, object], batches: int
) -> None:
    (switch,) = [play for play in load(ANSIBLE / "site.yml") if "serial" in play]
    play = {"name": "turn", "hosts": switch["hosts"], "serial": switch["serial"], "gather_facts": False}
    before = {"name": "before", "hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.debug": {}}]}
    (tmp_path / "turns.yml").write_text(yaml.safe_dump([before, play | {"tasks": before["tasks"]}]))
    hosts: dict[str, dict[str, object]] = {f"pi{number}": {} for number in range(4)}
    inventory = {"all": {"vars": setting, "children": {"edge_agents": {"hosts": hosts}}}}
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump(inventory))

    done = run_playbook(tmp_path / "turns.yml", tmp_path / "inventory.yml")

    assert done.stdout.count("PLAY [turn]") == batches, done.stdout + done.stderr
