"""Tiny echo runs on a real broker: one document on stdout, with the fields that its readers rely on."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.capture import may_capture

pytestmark = pytest.mark.timeout(180)

ROW_FIELDS = {
    "agents",
    "rounds",
    "round_s_median",
    "floor_s_median",
    "coordinator_cpu_ms_per_agent_round",
    "agent_cpu_ms_per_round",
    "broker_cpu_ms_per_agent_round",
    "packet_bytes_up",
    "packet_bytes_down",
    "payload_bytes",
    "coordinator_rss_mb",
    "agent_rss_mb",
}


def bench(out: Path, *arguments: str) -> dict[str, Any]:
    """The document that a benchmark prints."""
    command = [sys.executable, "-m", "coordinator.cli", "bench", *arguments, "--json", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    folder = Path(document["folder"])
    assert json.loads((folder / f"{arguments[0]}.json").read_text())["rows"] == document["rows"]
    assert (folder / f"{arguments[0]}.png").stat().st_size > 0
    assert document["machine"]["load_average"]
    return document


def test_overhead_gives_every_promised_field_for_each_number_of_agents(mosquitto_program: str, tmp_path: Path) -> None:
    assert mosquitto_program
    document = bench(tmp_path, "overhead", "--agents", "2,3", "--rounds", "3")

    assert [row["agents"] for row in document["rows"]] == [2, 3]
    for row in document["rows"]:
        assert row.keys() >= ROW_FIELDS
        assert row["rounds"] == 3
        assert row["packet_bytes_up"] + row["packet_bytes_down"] < 1.01 * 2 * row["payload_bytes"]
        assert row["floor_ratio"] == pytest.approx(row["round_s_median"] / row["floor_s_median"])


def test_load_loses_refuses_and_drops_nothing_while_agents_share_processes(
    mosquitto_program: str, tmp_path: Path
) -> None:
    assert mosquitto_program
    document = bench(tmp_path, "load", "--agents", "3,7", "--rounds", "2", "--per-process", "3")

    assert [(row["agents"], row["processes"]) for row in document["rows"]] == [(3, 1), (7, 3)]
    assert document["summary"]["every_round_had_every_agent"] is True
    for row in document["rows"]:
        assert (row["refused"], row["dropped"], row["connections_lost"]) == (0, 0, 0)
        assert row["accepted_per_round"] == [row["agents"]] * 4
        assert row["connect_s"] > 0
        # Announcement, model, update, receipt and report, each acknowledged, to the broker and on from there.
        assert row["packets_per_agent_round"] >= 2 * 2 * 5
        assert row["packet_bytes_per_agent_round"] > 2 * 180_000
        assert row["broker_limits"]["max_connections"] >= row["agents"]


def test_our_count_of_packet_bytes_agrees_with_the_kernels(mosquitto_program: str, tmp_path: Path) -> None:
    assert mosquitto_program
    document = bench(tmp_path, "wire", "--agents", "2", "--rounds", "3")

    plain, over_tls = document["rows"][:2], document["rows"][2:]
    for row in plain:
        assert row["tcp_bytes"] > 3 * 2 * 180_000
        assert abs(row["difference"]) < 0.01
    for row in over_tls:
        assert 0.001 < row["tls_adds"] < 0.02
    if may_capture():
        for row in document["rows"]:
            assert row["packets_lost_by_the_capture"] == 0
            assert row["captured_tcp_bytes"] == pytest.approx(row["tcp_bytes"], rel=0.01)
            # At least 52 bytes of headers for at most 1,448 of payload; and packets that only acknowledge.
            assert 52 / 1448 < row["ip_adds"] < 0.1


def test_unreadable_numbers_are_refused_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "coordinator.cli", "bench", "overhead", "--agents", "5;50", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr == "coordinator: --agents 5;50: expected whole numbers with commas, such as 5,50\n"
