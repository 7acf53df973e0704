"""Makes the Pis' links slow and lossy, as a Wi-Fi or worse, both ways, for the length of a `with` block.

The rate is a token bucket at both ends of each Pi's cable. Loss and delay sit where packets arrive: at the Pi for what
the server sends, at the server for what the Pi sends.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.testbed.bed import Bed
from tests.testbed.names import ROOT, SERVER, TestbedError, address
from tests.testbed.programs import run


@dataclass(frozen=True, slots=True)
class Link:
    """What a link is like, in each direction.

    Attributes:
        rate: as tc reads it.
        delay_ms, jitter_ms: the least, and the mean of what comes on top.
        loss: probability that a packet is lost.
        port: of the server; delay and loss are for what goes to it and comes from it alone. None is for everything.
    """

    rate: str = "300mbit"
    delay_ms: float = 1.5
    jitter_ms: float = 0.5
    loss: float = 0.005
    port: int | None = None


@contextmanager
def shaped(bed: Bed, hosts: Sequence[str], link: Link) -> Iterator[None]:
    """Shape the links of these hosts; when the block ends they are as before."""
    queues = {host: number for number, host in enumerate(hosts, start=1)}
    try:
        for host in hosts:
            _set_rate(bed, host, link.rate)
            from_server = ("-p", "tcp", "--sport", str(link.port)) if link.port else ()
            to_server = ("-p", "tcp", "--dport", str(link.port)) if link.port else ()
            _lose_and_queue(bed.machines[host].inside(), (address(SERVER), *from_server), 0, link.loss)
            _lose_and_queue(bed.machines[SERVER].inside(), (address(host), *to_server), queues[host], link.loss)
        with _delay(bed, queues, link):
            yield
    finally:
        for host in hosts:
            _clear(bed, host)


@contextmanager
def _delay(bed: Bed, queues: dict[str, int], link: Link) -> Iterator[None]:
    server = f"/proc/{bed.machines[SERVER].leader}/ns/net"
    places = [f"{server}:{number}" for number in queues.values()]
    places += [f"/proc/{bed.machines[host].leader}/ns/net:0" for host in queues]
    # It runs in the test bed's namespace so that `down` finds it, whatever becomes of us.
    command = bed.names.on_controller(sys.executable, "-m", "tests.testbed.netdelay")
    command += [str(link.delay_ms), str(link.jitter_ms), *places]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as delay:
        try:
            assert delay.stdout is not None
            if delay.stdout.readline() != "ready\n":
                raise TestbedError(f"the delay did not start: it ended with {delay.wait()}")
            yield
        finally:
            delay.kill()


def _set_rate(bed: Bed, host: str, rate: str) -> None:
    bucket = ("root", "tbf", "rate", rate, "burst", "128kb", "latency", "50ms")
    for prefix, device in _ends(bed, host):
        # A "packet" of 64 KB, as offloading makes them, is lost whole.
        run(*prefix, "ethtool", "-K", device, "tso", "off", "gso", "off", "gro", "off")
        run(*prefix, "tc", "qdisc", "replace", "dev", device, *bucket)


def _lose_and_queue(prefix: Sequence[str], source: Sequence[str], queue: int, loss: float) -> None:
    arriving = ("iptables", "-A", "INPUT", "-i", "host0", "-s", *source)
    run(*prefix, *arriving, "-m", "statistic", "--mode", "random", "--probability", str(loss), "-j", "DROP")
    run(*prefix, *arriving, "-j", "NFQUEUE", "--queue-num", str(queue), "--queue-bypass")


def _clear(bed: Bed, host: str) -> None:
    """Take away what was set, as far as it is there: a host may have rebooted since."""
    for prefix, device in _ends(bed, host):
        run(*prefix, "tc", "qdisc", "del", "dev", device, "root", accepted=(0, 2))
    run(*bed.machines[host].inside(), "iptables", "-F", "INPUT")
    run(*bed.machines[SERVER].inside(), "iptables", "-F", "INPUT")


def _ends(bed: Bed, host: str) -> list[tuple[list[str], str]]:
    """Both ends of a host's cable: what to put before a command, and the interface."""
    return [(bed.names.on_controller(), bed.names.interface(host)), (bed.machines[host].inside(), "host0")]
