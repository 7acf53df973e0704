"""The hosts that the proofs share: booted once, provisioned once, and put through the tests in a stated order."""

from collections.abc import Iterator

import pytest

from tests.testbed.bed import Bed
from tests.testbed.federation import TARGET_ACCURACY, Federation, Run
from tests.testbed.names import HOSTS, SERVER, names
from tests.testbed.older_broker import install_older_broker
from tests.testbed.packages import python_packages
from tests.testbed.provisioning import Playbooks, lent
from tests.testbed.requirements import require_hosts
from tests.testbed.traces import Traces, traces

NAMES = names("proofs")

ORDER = (
    "test_hosts",  # hosts of their own
    "test_bare_hosts",  # the shared hosts, before anything is on them
    "test_provisioned_hosts",
    "test_metrics",
    "test_refusals",
    "test_reboots",
    "test_slow_links",
    "test_renewal",
    "test_upgrade",
    "test_revocation",
    "test_removal",
    "test_uninstall",  # and after everything is gone again
)
"""Modules in the order in which they run; each leaves the hosts as it found them, but for the first and last few."""

INVENTORY = {
    # Otherwise Mosquitto says nothing of a publish that it refused.
    "broker_log_refused_publishes": True,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests of this folder; a test may take minutes, as it may have to provision six hosts first."""
    places = {name: place for place, name in enumerate(ORDER)}
    items.sort(key=lambda item: places.get(item.path.stem, -1))
    for item in items:
        if item.path.parent.name == "testbed" and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def can_boot_hosts() -> None:
    """Hosts can boot on this machine."""
    require_hosts()


@pytest.fixture(scope="session")
def bare(can_boot_hosts: None) -> Iterator[Federation]:
    """The server and five Pis, as the playbook finds them; nothing of it is on them yet when this is first used."""
    packages = python_packages()
    bed = Bed(NAMES)
    bed.down()  # what an interrupted run may have left
    bed.up(lent(packages))
    playbooks = Playbooks(bed, packages)
    playbooks.write_inventory(INVENTORY)
    install_older_broker(bed, SERVER)
    yield Federation(bed, playbooks, packages)
    bed.down()


@pytest.fixture(scope="session")
def untouched(bare: Federation) -> dict[str, Traces]:
    """What is on each host before the playbook comes."""
    return {host: traces(bare.bed, host) for host in HOSTS}


@pytest.fixture(scope="session")
def federation(bare: Federation, untouched: dict[str, Traces]) -> Federation:
    """The same hosts, provisioned."""
    recap = bare.playbooks.run("site.yml")
    assert recap.exit_code == 0, recap.end
    assert untouched
    bare.wait_until_agents_are_connected()
    return bare


@pytest.fixture(scope="session")
def finished(federation: Federation) -> Run:
    """A run that has come to its end."""
    run = federation.start_run("first", {"count": 60, "target_accuracy": TARGET_ACCURACY}, local_batches=4)
    run.wait_until_finished()
    return run
