"""A short soak on a real broker: every kind of fault hits real processes, and the run comes to its end all the same."""

from pathlib import Path

import pytest

from benchmarks.soak_faults import Kind
from benchmarks.soak_world import PARTIES
from coordinator.quarantine import PUT_IN
from tests.integration.test_bench_echo import bench

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_every_round_is_closed_and_nobody_shut_out_when_everything_breaks_again_and_again(
    mosquitto_program: str, tmp_path: Path
) -> None:
    assert mosquitto_program
    document = bench(tmp_path, "soak", "--quick")

    summary, details = document["summary"], document["details"]
    assert summary["rounds"] == document["settings"]["rounds"] == 60
    assert {fault["kind"] for fault in details["faults"]} == {kind.value for kind in Kind}
    assert summary["agents_shut_out"] == 0, PUT_IN
    assert summary["rising"] == []
    rows = {row["party"]: row for row in document["rows"]}
    assert tuple(rows) == PARTIES
    # Whoever was killed has had more than one life, and the spared agents one each.
    assert all(rows[party]["lives"] > 1 for party in ("coordinator", "broker", "agent, killed"))
    assert all(rows[party]["lives"] == 1 for party in ("agent", "echo agents"))
