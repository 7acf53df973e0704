"""The numbers that every view of a run shares, checked by hand."""

import pytest

from coordinator.summary import (
    DeviceTally,
    Record,
    Straggler,
    find_straggler,
    latencies_by_round,
    latency_s,
    levels,
    refusals,
    rounds_to_target,
    summarise_devices,
    total,
)
from tests.unit.coordinator.recorded import START, closed, happened, reported, run_of


def test_device_means_and_totals_are_over_its_reports() -> None:
    records: list[Record] = [
        reported(1, "a", 2.0, train_s=1.0, idle_s=0.0, packet_bytes_up=100, cpu_temperature_c=50.0, examples=7),
        closed(1, ["a"]),
        reported(2, "a", 4.0, train_s=3.0, idle_s=5.0, packet_bytes_up=300, cpu_temperature_c=45.5, throttled=True),
        closed(2, ["a"]),
    ]

    (device,) = summarise_devices(records)

    assert (device.train_s, device.train_total_s, device.idle_s, device.latency_s) == (2.0, 4.0, 2.5, 3.0)
    assert (device.packet_bytes_up, device.packet_bytes_down) == (400, 1700)
    assert (device.cpu_temperature_c, device.max_cpu_temperature_c, device.throttled_reports) == (45.5, 50.0, 1)
    assert device.examples == 100


def test_report_that_was_recorded_again_counts_once_in_a_tally() -> None:
    tally = DeviceTally()
    first, again = reported(1, "a", 2.0, train_s=1.0), reported(1, "a", None, train_s=4.0, upload_s=0.0)
    tally.add(first)
    tally.replace(first, again)
    tally.add(reported(2, "a", 3.75, train_s=2.0))

    assert (tally.num_reports, tally.mean("train_s"), tally.mean("latency_s")) == (2, 3.0, 4.0)
    assert tally.packet_bytes == 2 * (1000 + 850)


def test_device_that_never_reported_is_listed_without_numbers() -> None:
    records: list[Record] = [closed(1, ["a", "b"], accepted=("a",)), reported(1, "a")]

    _, silent = summarise_devices(records)

    assert (silent.agent_id, silent.rounds_selected, silent.rounds_accepted) == ("b", 1, 0)
    assert (silent.train_s, silent.latency_s, silent.last_seen_at, silent.peak_rss_bytes) == (None, None, None, None)


def test_device_is_seen_last_at_its_latest_update_or_event() -> None:
    records: list[Record] = [
        happened("agent-online", START - 5, "a"),
        reported(1, "a", 3.0),
        happened("agent-online", START, "b"),
    ]

    a, b = summarise_devices(records)

    assert (a.last_seen_at, b.last_seen_at) == (START + 3.0, START)


def test_silence_and_a_later_start_say_who_is_there() -> None:
    records: list[Record] = [
        happened("agent-online", START, "a"),
        happened("agent-online", START, "b"),
        happened("agent-offline", START + 1, "b"),
        happened("agent-silent", START + 2, "a"),
    ]

    assert [device.online for device in summarise_devices(records)] == [True, False]
    assert [d.online for d in summarise_devices([*records, happened("resumed", START + 3)])] == [False, False]


def test_refusals_are_counted_by_reason_with_the_most_frequent_first() -> None:
    rounds = [
        closed(1, refused={"a": {"stale-round": 1}, "unknown": {"malformed": 2}}),
        closed(2, refused={"a": {"stale-round": 1, "malformed": 2}}),
    ]

    assert list(refusals(rounds).items()) == [("malformed", {"a": 2, "unknown": 2}), ("stale-round", {"a": 2})]


def test_stranger_is_no_device_but_its_refusals_count() -> None:
    records: list[Record] = [closed(1, ["a"], refused={"unknown": {"malformed": 2}})]

    assert [device.agent_id for device in summarise_devices(records)] == ["a"]
    assert total(records).refused == 2


def test_latency_falls_back_to_the_devices_own_parts_when_the_coordinator_has_none() -> None:
    assert latency_s(reported(1, "a", None, download_s=0.5, train_s=2.0, upload_s=0.25)) == 2.75
    assert latency_s(reported(1, "a", 9.0)) == 9.0


def test_latencies_are_of_accepted_updates_only() -> None:
    records: list[Record] = [
        reported(1, "a", 1.0),
        reported(1, "b", 2.0),
        closed(1, ["a", "b"], accepted=("a",)),
        reported(2, "a"),
    ]

    assert latencies_by_round(records) == {1: {"a": 1.0}}


def test_straggler_is_the_device_that_stands_out() -> None:
    latencies = {
        1: {"a": 1.0, "b": 3.0, "c": 2.0},
        2: {"a": 9.0, "b": 2.0, "c": 2.0},
        3: {"a": 8.0, "b": 2.0, "c": 3.0},
    }

    # Means: a 6, b 7/3, c 7/3. In rounds 2 and 3 it was last, by 7 and 5 seconds.
    assert find_straggler(latencies) == Straggler(
        agent_id="a", latency_s=6.0, others_latency_s=7 / 3, last_in_rounds=2, since_round=2, cost_s=12.0
    )


def test_straggler_has_no_streak_when_another_device_was_last_in_the_latest_round() -> None:
    straggler = find_straggler({1: {"a": 10.0, "b": 1.0}, 2: {"a": 1.0, "b": 2.0}})

    assert straggler is not None
    assert (straggler.agent_id, straggler.last_in_rounds, straggler.since_round, straggler.cost_s) == ("a", 1, None, 9)


@pytest.mark.parametrize(
    "latencies",
    [{}, {1: {}}, {1: {"a": 5.0}}, {1: {"a": 1.2, "b": 1.0, "c": 1.0}}, {1: {"a": 1.0, "b": 1.0}}],
    ids=["nothing", "nobody", "alone", "within the factor", "equal"],
)
def test_no_straggler_is_named_when_nobody_stands_out(latencies: dict[int, dict[str, float]]) -> None:
    assert find_straggler(latencies) is None


def test_target_is_reached_at_the_first_round_at_or_over_it() -> None:
    rounds = [closed(1, accuracy=0.8), closed(2, accuracy=None), closed(3, accuracy=0.85), closed(4, accuracy=0.84)]

    assert rounds_to_target(rounds, 0.85) == 3
    assert rounds_to_target(rounds, 0.9) is None
    assert rounds_to_target(rounds, None) is None


def test_run_totals_of_two_rounds_and_two_devices() -> None:
    totals = total(run_of(2, {"a": 2.0, "b": 3.0}))

    assert (totals.rounds_closed, totals.devices, totals.duration_s) == (2, 2, 8.0)
    assert (totals.final_accuracy, totals.best_accuracy, totals.best_round) == (0.7, 0.7, 2)
    assert totals.phase_s == {
        "broadcast_s": 0.1, "wait_s": 2.0, "aggregate_s": 0.2, "checkpoint_s": 0.3, "evaluate_s": 1.0
    }  # fmt: skip
    assert (totals.train_s_per_device, totals.packet_bytes_up_per_device) == (2.0, 2000)


def test_best_round_is_the_earliest_of_the_highest() -> None:
    totals = total([closed(1, accuracy=0.9), closed(2, accuracy=0.9), closed(3, accuracy=0.5)])

    assert (totals.best_accuracy, totals.best_round, totals.final_accuracy) == (0.9, 1, 0.5)


def test_empty_run_has_totals() -> None:
    totals = total([])

    assert (totals.rounds_closed, totals.final_accuracy, totals.devices, totals.refused) == (0, None, 0, 0)
    assert totals.phase_s["wait_s"] == 0.0


def test_levels_are_counted_in_rounds_and_seconds_until_they_were_reached() -> None:
    rounds = [closed(number, accuracy=accuracy) for number, accuracy in enumerate((0.55, 0.5, 0.72), 1)]

    assert [(level.accuracy, level.rounds, level.seconds) for level in levels(rounds, [0.55, None])] == [
        (0.5, 1, 4.0),
        (0.55, 1, 4.0),
        (0.6, 3, 12.0),
        (0.7, 3, 12.0),
    ]


def test_no_level_is_reached_when_nothing_was_evaluated() -> None:
    assert levels([closed(1, accuracy=None)]) == []
