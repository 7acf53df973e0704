"""Playbooks are valid, and refuse what cannot work by saying what to do, before anything is changed."""

import hashlib
from pathlib import Path

import pytest

from tests.ansible.playbook import ANSIBLE, EXAMPLE_INVENTORY, ROLES, run_playbook

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
