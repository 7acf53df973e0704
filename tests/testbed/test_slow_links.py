"""Links like a Wi-Fi's and one device that is much slower than the others: it is found, and all get through."""

from collections.abc import Iterator
from contextlib import contextmanager
from statistics import mean

from schemas.records import DeviceRecord
from tests.testbed.federation import Federation, wait_until
from tests.testbed.link import Link, shaped
from tests.testbed.names import PIS, SERVER, address

SLOW = "pi3"
CORES = 0.3
"""Of each device; five of them leave something for the server on two cores."""


@contextmanager
def one_slow_device(federation: Federation) -> Iterator[None]:
    """Every device has the same share of the CPU, but for one that has a quarter of it."""
    machines = federation.bed.machines
    try:
        for host in PIS:
            machines[host].cgroup.limit_cpu(CORES / 4 if host == SLOW else CORES)
        yield
    finally:
        for host in PIS:
            machines[host].cgroup.limit_cpu(None)


def round_trip_ms(federation: Federation, host: str) -> float:
    """The shortest of a few to the server and back, as a program on the host sees it."""
    said = federation.bed.on(host, f"ping -U -q -c 5 -i 0.1 {address(SERVER)}")
    return float(said.rpartition("=")[2].split("/")[0])


def slowest_by_metrics(federation: Federation, run_id: str, num_records: int) -> str:
    """The device with the longest latency, as InfluxDB computes it once all records are there."""
    where = f"FROM fl_device WHERE run_id = '{run_id}'"
    wait_until(
        lambda: len(federation.query(f"SELECT round_number {where}")) == num_records, "the metrics to be shipped"
    )
    rows = federation.query(f"SELECT mean(latency_s) AS latency_s {where} GROUP BY agent_id")
    return str(max(rows, key=lambda row: float(row["latency_s"]))["agent_id"])


def test_slow_device_on_lossy_links_is_named_by_report_and_metrics(federation: Federation) -> None:
    link = Link()
    with shaped(federation.bed, PIS, link), one_slow_device(federation):
        assert all(round_trip_ms(federation, host) >= 2 * link.delay_ms for host in PIS)
        run = federation.start_run("slow-links", {"count": 5}, local_batches=40)
        run.wait_until_finished()

    assert all(each.accepted == PIS for each in run.rounds())
    assert run.show()["straggler"]["agent_id"] == SLOW
    report = federation.bed.on(
        SERVER, f"coordinator report {run.run_id} --out /root/report.html && cat /root/report.html"
    )
    assert f"Straggler {SLOW}:" in report
    records = [each for each in run.records() if isinstance(each, DeviceRecord)]
    train_s = {host: mean(each.report.train_s for each in records if each.agent_id == host) for host in PIS}
    assert max(train_s, key=train_s.__getitem__) == SLOW
    assert slowest_by_metrics(federation, run.run_id, len(records)) == SLOW
