"""The simulation's benchmark in its small version: loops and simulation really run, and both yardsticks are told."""

from pathlib import Path

import pytest

from tests.integration.test_bench_echo import bench

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def test_table_and_summary_hold_the_simulation_against_both_yardsticks(tmp_path: Path) -> None:
    document = bench(tmp_path, "simulate", "--quick", "--agents", "2,3")

    assert [(row["agents"], row["rounds"]) for row in document["rows"]] == [(2, 30), (3, 20)]
    for share, speed in (("ratio", "plain_updates_per_s"), ("own_model_ratio", "own_model_updates_per_s")):
        for row in document["rows"]:
            assert row[share] == pytest.approx(row["updates_per_s"] / row[speed])
        assert document["summary"][f"{share}_min"] == min(row[share] for row in document["rows"])
