"""The hosts themselves, before any playbook: they boot, come back and go without a trace.

Two hosts are enough here; `scripts/testbed` boots all six the same way.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed.bed import Bed
from tests.testbed.names import ROOT, SERVER, TestbedError, address, names
from tests.testbed.remains import remains

pytestmark = pytest.mark.timeout(600)

NAMES = names("hosts")
LIMIT_S = 240.0
POLL_S = 0.1


@pytest.fixture(scope="module")
def hosts(can_boot_hosts: None) -> Iterator[Bed]:
    """Two hosts that the tests share; whether they are up is for each test to see to."""
    hosts = Bed(NAMES, (SERVER, "pi1"))
    yield hosts
    hosts.down()


@pytest.fixture
def bed(hosts: Bed) -> Bed:
    """The same hosts, up; booted anew only when a test has brought them down."""
    hosts.up()
    return hosts


def test_hosts_run_systemd_without_a_failed_unit_and_reach_each_other(bed: Bed) -> None:
    for host in (SERVER, "pi1"):
        assert bed.on(host, "systemctl is-system-running --wait; hostname") == f"running\n{host}\n"
    bed.on("pi1", f"ping -c 1 -W 10 {address(SERVER)}")


def test_hosts_reach_nothing_outside_but_apt_has_its_packages(bed: Bed) -> None:
    assert bed.on("pi1", "ip route show default") == ""
    assert "Candidate" in bed.on("pi1", "apt-get update --quiet && apt-cache policy mosquitto")


def test_up_when_the_hosts_are_up_leaves_them_running(bed: Bed) -> None:
    before = bed.machines["pi1"].leader

    bed.up()

    assert bed.machines["pi1"].leader == before


def test_host_that_reboots_comes_back_with_its_disk(bed: Bed) -> None:
    before = bed.machines["pi1"].leader
    bed.on("pi1", "echo kept >/root/reboot")

    bed.machines["pi1"].reboot()
    bed.wait_for_ssh("pi1")

    assert bed.machines["pi1"].leader != before
    assert bed.on("pi1", "cat /root/reboot; systemctl is-system-running --wait") == "kept\nrunning\n"


def test_host_whose_power_is_cut_comes_back_with_its_disk(bed: Bed) -> None:
    bed.on("pi1", "echo kept >/root/power-cut; sync")

    # As when the kernel is slow to take down what the host had: its end of the cable stays for as long as this is open.
    with Path(f"/proc/{bed.machines['pi1'].leader}/ns/net").open("rb"):
        bed.machines["pi1"].power_cut()
        with pytest.raises(TestbedError, match="pi1 is not running"):
            _ = bed.machines["pi1"].leader
        bed.machines["pi1"].boot()
        bed.wait_for_ssh("pi1")

    assert bed.on("pi1", "cat /root/power-cut") == "kept\n"


def test_down_leaves_nothing_behind_not_even_what_somebody_left_open(bed: Bed) -> None:
    with subprocess.Popen(bed.ssh("pi1", "sleep 600"), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as shell:
        assert remains(NAMES) != []

        bed.down()

        assert shell.wait(LIMIT_S) != 0
    assert remains(NAMES) == []
    bed.down()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("can_boot_hosts")
def test_up_that_is_interrupted_leaves_nothing_behind(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTBED_NAME", NAMES.identity)
    command = [sys.executable, "-m", "tests.testbed", "up"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as up:
        wait_for(NAMES.folder / "hosts" / "pi3" / "console.log")
        up.send_signal(number)
        _, said = up.communicate(timeout=LIMIT_S)

    assert up.returncode == 130, said
    assert "nothing is left behind" in said
    assert remains(NAMES) == []


def wait_for(file: Path) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not file.exists():
        assert time.monotonic() < deadline_s, f"{file} did not appear"
        time.sleep(POLL_S)
