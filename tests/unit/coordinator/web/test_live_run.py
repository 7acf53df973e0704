"""A record added up line by line gives the numbers of `coordinator devices` and `show`, whatever it holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.summary import Record, find_straggler, latencies_by_round, refusals, summarise_devices
from coordinator.web.live_run import KEPT_EVENTS, RECENT_ROUNDS, live_run
from tests.unit.coordinator.recorded import START, closed, happened, reported, run_of, started_at
from tests.unit.coordinator.web.watched import begun

AGENTS = st.sampled_from(["a", "b", "c"])
ROUNDS = st.integers(1, 5)
SECONDS = st.floats(0, 100).map(lambda value: round(value, 3))
TALLY = st.dictionaries(
    st.sampled_from(["a", "b", "unknown"]),
    st.dictionaries(st.sampled_from(["stale-round", "malformed"]), st.integers(1, 3), min_size=1),
    max_size=2,
)
NAMES = ["started", "resumed", "agent-online", "agent-offline", "agent-online", "agent-offline"]
RECORDS = st.lists(
    st.one_of(
        st.builds(
            lambda number, agents, accepted, refused: closed(
                number, sorted(agents | accepted), accepted=tuple(sorted(accepted)), refused=refused
            ),
            ROUNDS,
            st.frozensets(AGENTS),
            st.frozensets(AGENTS),
            TALLY,
        ),
        st.builds(
            lambda number, agent, latency_s, train_s: reported(number, agent, latency_s, train_s=train_s),
            ROUNDS,
            AGENTS,
            st.none() | SECONDS,
            SECONDS,
        ),
        st.builds(lambda name, at, agent: happened(name, START + at, agent), st.sampled_from(NAMES), SECONDS, AGENTS),
    ),
    max_size=30,
)


def as_read(records: list[Record]) -> list[Record]:
    """Of records with the same key the last one, as `RunFolder.records` gives them."""
    kept: dict[object, Record] = {}
    for record in records:
        kept[record.key] = record
    return list(kept.values())


@given(RECORDS)
def test_numbers_are_those_of_the_summary_whatever_was_recorded_again(records: list[Record]) -> None:
    live = live_run(records)

    expected = {device.agent_id: device for device in summarise_devices(as_read(records))}
    assert expected.keys() <= live.devices.keys()
    for name, device in expected.items():
        found = live.summary(name)
        assert (found.rounds_selected, found.rounds_accepted) == (device.rounds_selected, device.rounds_accepted)
        assert {r: n for r, n in found.refused.items() if n} == device.refused
        assert found.latency_s == pytest.approx(device.latency_s, abs=1e-6)
        assert found.train_total_s == pytest.approx(device.train_total_s, abs=1e-6)
        assert found.packet_bytes_up == device.packet_bytes_up
    kept = [r for r in as_read(records) if r.type == "round"]
    counted = {reason: {a: n for a, n in by.items() if n} for reason, by in live.refused.items()}
    assert {reason: by for reason, by in counted.items() if by} == refusals(kept)


def test_whole_run_has_the_rounds_devices_and_straggler_of_the_summary() -> None:
    records = run_of(6, {"a": 2.0, "b": 9.0, "c": 2.5})

    live = live_run(records)

    assert list(live.rounds) == [1, 2, 3, 4, 5, 6]
    assert live.last_round == 6
    assert [live.summary(name) for name in sorted(live.devices)] == summarise_devices(records)
    assert live.straggler() == find_straggler(latencies_by_round(records))


def test_old_reports_leave_memory_and_stay_in_the_numbers() -> None:
    rounds = RECENT_ROUNDS + 5
    records = run_of(rounds, {"a": 2.0, "b": 3.0})

    live = live_run(records)

    assert [number for number in range(1, rounds + 1) if live.reports(number)] == list(range(6, rounds + 1))
    assert live.summary("a").packet_bytes_up == rounds * 1000
    live.add(reported(1, "a", 50.0))
    live.add(closed(1))
    assert live.summary("a").latency_s == pytest.approx(2.0)
    assert live.devices["a"].rounds_accepted == rounds


def test_only_the_latest_events_are_kept() -> None:
    live = live_run(happened("agent-online", START + i, "a") for i in range(KEPT_EVENTS + 50))

    assert len(live.events) == KEPT_EVENTS
    assert live.events[-1].at == START + KEPT_EVENTS + 49


def test_device_is_gone_since_its_will_and_back_when_it_returns() -> None:
    live = live_run([*begun("a"), happened("agent-offline", START + 7, "a")])
    assert (live.devices["a"].online, live.devices["a"].gone_at) == (False, START + 7)

    live.add(happened("agent-online", START + 9, "a"))
    assert (live.devices["a"].online, live.devices["a"].gone_at) == (True, None)


def test_device_is_silent_from_the_deadline_until_it_reports() -> None:
    live = live_run([*begun("a"), happened("agent-silent", START + 5, "a"), happened("agent-silent", START + 9, "a")])
    assert live.devices["a"].silent_at == START + 5

    live.add(reported(1, "a"))
    assert live.devices["a"].silent_at is None


def test_start_of_the_coordinator_forgets_who_is_there_but_not_who_was() -> None:
    live = live_run([*begun("a"), reported(1, "a", 2.0), happened("resumed", START + 60)])

    assert (live.devices["a"].online, live.devices["a"].gone_at) == (False, None)
    assert live.devices["a"].last_seen_at == started_at(1) + 2.0


def test_round_is_under_way_from_its_opening_until_its_record() -> None:
    live = live_run([*begun("a"), happened("round-opened", START, round_number=1)])
    assert live.open_round is not None
    assert live.open_round.number == 1

    live.add(closed(1))
    assert live.open_round is None


@pytest.mark.parametrize("name", ["round-repeated", "resumed", "stopped", "aborted"])
def test_round_is_under_way_no_more_when_it_was_given_up(name: str) -> None:
    live = live_run([*begun("a"), happened("round-opened", START, round_number=1), happened(name, START + 1)])

    assert live.open_round is None


def test_broker_is_in_reach_or_not_since_the_latest_event() -> None:
    live = live_run([*begun(), happened("broker-lost", START + 4)])
    assert (live.broker_connected, live.broker_since) == (False, START + 4)

    live.add(happened("broker-connected", START + 6))
    assert (live.broker_connected, live.broker_since) == (True, START + 6)


def test_round_that_is_recorded_after_the_broker_was_lost_does_not_prove_the_broker() -> None:
    live = live_run([*begun("a"), happened("broker-lost", START + 4), closed(1)])

    assert not live.broker_connected


def test_record_of_an_older_release_proves_the_broker_by_its_devices() -> None:
    assert live_run([happened("started"), happened("agent-online", START + 1, "a")]).broker_connected


def test_strangers_are_counted_apart_from_devices() -> None:
    live = live_run([closed(1, ["a"], refused={"unknown": {"unknown-agent": 3}})])

    assert list(live.devices) == ["a"]
    assert live.strangers == {"unknown-agent": 3}
