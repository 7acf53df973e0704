"""What benchmarks work out from raw measurements, and how they say it; nothing here measures anything."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import aggregate, convergence, load, overhead, simulate, timeline, wire
from benchmarks.broker_counts import BrokerCounts
from benchmarks.echo_run import EchoPlan, EchoRun
from benchmarks.floor import floor_of
from benchmarks.machine import describe_machine, in_a_sentence
from benchmarks.output import as_table, document, new_folder, picture_of, write
from benchmarks.result import Column, Result
from benchmarks.stamped_coordinator import WARM_UP_ROUNDS
from schemas.errors import ConfigError

PNG = b"\x89PNG\r\n"


def stamp(number: int) -> dict[str, Any]:
    """Rounds of 10 ms, in which coordinator and broker use 4 and 2 ms of CPU."""
    times = {"at_s": number * 0.010, "cpu_s": number * 0.004, "broker_cpu_s": number * 0.002}
    return times | {"rss_mb": 250.0, "broker_rss_mb": 10.0}


def echo_run() -> EchoRun:
    """Four rounds of two agents, as made-up as can be."""
    report = SimpleNamespace(
        packet_bytes_up=1010, packet_bytes_down=1020, payload_bytes_up=1000, payload_bytes_down=1000
    )
    agents = [
        {
            "agents": 2,
            "cpu_s_at": {"1": 1.0, "2": 1.1, "3": 1.104, "4": 1.108},
            "peak_rss_mb": 50.0,
            "packet_bytes_up": 8080,
            "packet_bytes_down": 8160,
            "tcp_bytes_up": 8080,
            "tcp_bytes_down": 8000,
            "connected_at_s": [5.0, 5.5],
            "connections_made": 3,
            "ports": [40001],
            "connections_lost": {"the broker closed the connection": 1},
        }
    ]
    counts = BrokerCounts(packets_received=80, packets_sent=96, dropped=2, heap_max_bytes=1, connected=1)
    phases = dict.fromkeys(("broadcast_s", "wait_s", "aggregate_s", "checkpoint_s", "duration_s"), 0.002)
    return EchoRun(
        port=1883,
        stamps=[stamp(number) for number in (1, 2, 3, 4)],
        agents=agents,
        rounds=[SimpleNamespace(**phases, accepted=("a", "b"), refused={"a": {"duplicate": 1}}) for _ in range(4)],  # type: ignore[misc]
        reports=[SimpleNamespace(round_number=n, report=report) for n in (1, 2, 3, 4) for _ in range(2)],  # type: ignore[misc]
        coordinator_rss_mb=250.0,
        broker_rss_mb=10.0,
        broker=counts,
    )


def overhead_rows() -> list[dict[str, Any]]:
    return [overhead.row_of(echo_run(), 2, 1000, [0.004, 0.005, 0.006])]


def test_overhead_counts_per_agent_and_round_without_the_first_rounds() -> None:
    (row,) = overhead_rows()

    assert row["rounds"] == 2
    assert row["round_s_median"] == pytest.approx(0.010)
    assert row["floor_s_median"] == 0.005
    assert row["floor_ratio"] == pytest.approx(2.0)
    assert row["coordinator_cpu_ms_per_agent_round"] == pytest.approx(2.0)
    assert row["broker_cpu_ms_per_agent_round"] == pytest.approx(1.0)
    assert row["agent_cpu_ms_per_round"] == pytest.approx(2.0)
    assert row["packet_factor"] == pytest.approx(2030 / 2000)


def test_overhead_states_every_number_that_its_readers_rely_on() -> None:
    (row,) = overhead_rows()

    assert row.keys() >= {
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


def test_overhead_compares_with_flower_only_at_flowers_number_of_agents() -> None:
    rows = overhead_rows()
    assert "flower_round_ratio" not in overhead.summarise(rows)

    rows[0]["agents"] = 5
    assert overhead.summarise(rows)["flower_round_ratio"] == pytest.approx(680.0)


def test_overhead_runs_fewer_rounds_with_more_agents() -> None:
    settings = overhead.Settings()
    rounds = [settings.rounds_for(agents) for agents in (5, 50, 200, 1000)]

    assert rounds == sorted(rounds, reverse=True)
    assert overhead.Settings(rounds=7).rounds_for(1000) == 7 + WARM_UP_ROUNDS


def test_floor_counts_blobs_both_ways() -> None:
    floor = floor_of([0.1, 0.2, 0.3], num_agents=5, payload_bytes=1_000_000)

    assert floor.exchange_s_median == 0.2
    assert floor.megabytes_per_s == pytest.approx(50.0)


LOAD_PLAN = EchoPlan(num_agents=2, rounds=4, model="cnn", model_bytes=1_000_000, agents_per_process=250)


def test_load_counts_everything_that_did_not_go_as_it_should() -> None:
    row = load.row_of(echo_run(), LOAD_PLAN)

    assert (row["refused"], row["dropped"], row["connections_lost"]) == (4, 2, 1)
    assert row["connections_lost_because"] == {"the broker closed the connection": 1}
    assert row["connect_s"] == pytest.approx(0.5)
    assert row["packets_per_agent_round"] == pytest.approx(22.0)
    assert row["coordinator_cpu_ms_per_agent_round"] == pytest.approx(2.0)


def test_load_calls_memory_flat_only_when_a_further_agent_costs_next_to_nothing() -> None:
    few = load.row_of(echo_run(), LOAD_PLAN)
    thousand_for = {mb: few | {"agents": 1002, "coordinator_rss_mb": 250.0 + mb} for mb in (99.0, 101.0)}

    verdicts = {mb: load.summarise([few, row], 1_000_000) for mb, row in thousand_for.items()}

    assert verdicts[99.0]["coordinator_memory_is_flat"] is True
    assert verdicts[99.0]["coordinator_bytes_per_agent"] == 99_000
    assert verdicts[101.0]["coordinator_memory_is_flat"] is False
    # The last round of the larger run lacks agents: two are not a thousand.
    assert verdicts[99.0]["every_round_had_every_agent"] is False


def test_load_is_refused_with_figures_when_the_machine_cannot_hold_it() -> None:
    plan = dataclasses.replace(LOAD_PLAN, num_agents=10_000)

    with pytest.raises(ConfigError, match=r"10,000 agents need about \d+\.\d GB of memory, 4\.0 GB are there"):
        load.check_memory(plan, available_mb=4000.0)
    load.check_memory(plan, available_mb=100_000.0)


def test_wire_holds_our_count_against_the_kernels() -> None:
    up, down = (wire.row_of(echo_run(), way) for way in ("up", "down"))

    assert up["difference"] == 0.0
    assert down["difference"] == pytest.approx(0.02)
    assert up["over_payload"] == pytest.approx(0.01)


def test_aggregation_row_shows_what_exactness_buys() -> None:
    row = aggregate.measure("cnn", updates=3, seconds=0.0)

    assert row["parameters"] == 47_226
    assert row["order_independent"] is True
    assert row["max_error"] < 1e-6
    assert row["cpu_ratio"] == pytest.approx(row["cpu_ms_per_update"] / row["plain_cpu_ms_per_update"])


def test_simulation_is_compared_with_the_mean_of_each_yardstick_before_and_after() -> None:
    row = simulate.beside(63.0, {"plain": 40.0, "own_model": 72.0}, {"plain": 44.0, "own_model": 68.0})

    assert (row["plain_updates_per_s"], row["ratio"]) == (42.0, 1.5)
    assert (row["own_model_updates_per_s"], row["own_model_ratio"]) == (70.0, 0.9)


def test_convergence_spreads_over_the_seeds_that_reached_the_target() -> None:
    demo = SimpleNamespace(partition="digit-pairs", local_batches=10, target_accuracy=0.85)
    runs = [convergence._One([0.5, 0.9], 2, 1.0), convergence._One([0.5] * 4, None, None)]
    row = convergence.row_of(demo, runs)  # type: ignore[arg-type]

    assert row["reached"] == "1 of 2"
    assert (row["rounds_mean"], row["rounds_min"], row["rounds_max"]) == (2, 2, 2)
    assert row["study_rounds"] == 25


def test_timeline_adds_up_a_devices_communication() -> None:
    device = SimpleNamespace(
        agent_id="room-1",
        rounds_accepted=4,
        train_s=0.6,
        download_s=0.1,
        upload_s=0.1,
        idle_s=0.2,
        latency_s=0.8,
    )
    row = timeline.row_of(device, None)  # type: ignore[arg-type]

    assert row["communication_s"] == pytest.approx(0.2)
    assert row["communication_share"] == pytest.approx(0.2)


def test_machine_names_processor_cores_load_and_versions() -> None:
    machine = describe_machine()

    assert machine["cpu_model"]
    assert machine["cores"] >= 1
    assert len(machine["load_average"]) == 3
    assert {"python", "torch", "numpy", "paho-mqtt", "mosquitto"} <= machine["versions"].keys()
    assert "\n" not in in_a_sentence(machine)


def test_column_shows_numbers_in_their_unit_and_gaps_as_a_dash() -> None:
    column = Column("round_s", "ms", 1, 1000)

    assert column.text({"round_s": 0.0123}) == "12.3"
    assert column.text({"round_s": None}) == "-"
    assert column.text({"round_s": float("nan")}) == "-"
    assert Column("name", "name").text({"name": "cnn"}) == "cnn"


def test_result_is_written_as_one_document_and_one_picture(tmp_path: Path) -> None:
    rows = [overhead_rows()[0] | {"agents": agents} for agents in (5, 50)]
    result = Result(settings={"model": "cnn"}, rows=rows, columns=overhead.COLUMNS, summary=overhead.summarise(rows))
    folder = new_folder(tmp_path / "bench", "overhead")
    content = document("overhead", "coordinator bench overhead", {"cores": 2}, result, 1.0)

    written = write(folder, content, picture_of(result, overhead.draw, overhead.HEIGHT_IN))

    assert json.loads(written.json_file.read_text())["rows"] == json.loads(json.dumps(rows))
    assert written.picture.read_bytes().startswith(PNG)
    assert as_table(result).row_count == 2


@pytest.mark.parametrize("module", [convergence, timeline])
def test_picture_is_drawn_when_nothing_was_reached_and_nobody_is_waited_for(module: Any) -> None:
    curve = {"partition": "iid", "local_batches": 10, "target": 0.95, "rounds_mean": None, "accuracy_by_round": [[0.1]]}
    device = {"agent_id": "room-1", "train_s": 0.1, "communication_s": 0.1, "idle_s": 0.1}
    entry = {"round": 1, "agent_id": "room-1", "train_s": 0.1, "communication_s": 0.1, "idle_s": 0.1}
    result = Result(
        settings={},
        rows=[curve | device],
        columns=(),
        summary={"straggler": None},
        details={"rounds": [entry]},
    )

    assert picture_of(result, module.draw, module.HEIGHT_IN).startswith(PNG)
