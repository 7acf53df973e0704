"""A newer version comes while a run is on, and does not work on one of the devices."""

import re
import shutil
from pathlib import Path

import pytest

from schemas.records import RunEvent
from tests.testbed.federation import BROKER_PORT, Federation
from tests.testbed.link import Link, shaped
from tests.testbed.names import PIS, ROOT
from tests.testbed.provisioning import ALONE, Playbooks

BROKEN = "pi2"
LACKING = "pi3"
"""Lacks a package that the newer version needs."""
NEEDED = "shellingham"
SLOW_MQTT = Link(delay_ms=1000, jitter_ms=0, loss=0, port=BROKER_PORT)
"""Of BROKEN, for which every round has to wait: the run outlasts the upgrade without more rounds than it takes."""
ENVIRONMENT = "/opt/federation/edge-agent/current"
VERSION_IN_SERVICE = f"readlink {ENVIRONMENT}"
PYTORCH_OF_TWO_VERSIONS = "find /opt/federation/edge-agent/versions -path '*/site-packages/torch/__init__.py' -links 2"
"""One file on disk with a place in each."""


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """A checkout of a newer version, whose agent cannot start where the host's name is BROKEN's."""
    checkout = tmp_path / "newer"
    left_out = shutil.ignore_patterns(".*", "runs", "build", "__pycache__", "*.egg-info", "tests", "docs")
    shutil.copytree(ROOT, checkout, ignore=left_out)
    project = checkout / "pyproject.toml"
    older = project.read_text()
    project.write_text(re.sub(r'^version = "[\d.]+"$', 'version = "99.0.0"', older, count=1, flags=re.MULTILINE))
    agent = checkout / "edge_agent" / "cli.py"
    fault = f'import socket\n\nif socket.gethostname() == "{BROKEN}":\n    raise SystemExit("no such sensor here")\n'
    agent.write_text(f"{agent.read_text()}\n{fault}")
    return checkout


def test_upgrade_that_fails_on_one_device_is_undone_there_and_disturbs_no_round(
    federation: Federation, newer: Path
) -> None:
    bed = federation.bed
    before = {host: bed.on(host, VERSION_IN_SERVICE) for host in PIS}
    bed.on(LACKING, f"{ENVIRONMENT}/bin/pip uninstall --yes {NEEDED}")
    # Little to train: the processor is for the upgrade.
    run = federation.start_run("upgrade", {"count": 120}, local_batches=2)
    run.wait_for_round(1)

    with shaped(bed, (BROKEN,), SLOW_MQTT):
        recap = Playbooks(bed, federation.packages, newer).run("site.yml", "--tags", "coordinator,edge_agent")
    upgraded_at = float(bed.on("pi1", "date +%s"))

    assert recap.exit_code != 0
    failed = recap.count("failed")
    assert {host for host, number in failed.items() if number} == {BROKEN}, recap.end
    assert "no such sensor here" in recap.said
    after = {host: bed.on(host, VERSION_IN_SERVICE) for host in PIS}
    assert {host for host in PIS if after[host] == before[host]} == {BROKEN}
    assert all("/99.0.0-" in after[host] for host in PIS if host != BROKEN)
    bed.on(LACKING, f"{ENVIRONMENT}/bin/python -c 'import {NEEDED}'")
    assert bed.on(ALONE, PYTORCH_OF_TWO_VERSIONS).count("\n") == 2, "the upgrade has installed PyTorch once more"
    federation.wait_until_agents_are_connected()

    run.wait_until_finished()
    ends = [each.at for each in run.records() if isinstance(each, RunEvent) and each.name == "finished"]
    assert ends[0] > upgraded_at, "the run was over before the upgrade was: it proves nothing"
    assert all(each.accepted == PIS and each.attempt == 1 for each in run.rounds())
