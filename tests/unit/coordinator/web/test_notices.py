"""What is wrong with devices is found, and said with what to do about it."""

import pytest

from coordinator.summary import Record
from coordinator.web.live_run import live_run
from coordinator.web.notices import Notice, notices
from coordinator.web.plan import Plan
from coordinator.web.troubles import SETTLING_S, Troubles, find_troubles
from tests.unit.coordinator.recorded import START, closed, happened, reported, run_of
from tests.unit.coordinator.web.watched import begun, plan

NOW = START + 600


def found(records: list[Record], of: Plan | None = None, now_s: float = NOW) -> list[Notice]:
    live = live_run(records)
    return notices(live, find_troubles(live, of or plan(), now_s), now_s)


def troubles(records: list[Record], of: Plan | None = None, now_s: float = NOW) -> Troubles:
    return find_troubles(live_run(records), of or plan(), now_s)


def test_nothing_is_said_when_nothing_is_wrong() -> None:
    assert (
        found(
            [*begun("room-1", "room-2"), reported(1, "room-1"), reported(1, "room-2"), closed(1, ["room-1", "room-2"])]
        )
        == []
    )


def test_missing_device_is_named_with_the_time_and_what_to_check() -> None:
    (notice,) = found([*begun("room-3", "room-4"), happened("agent-offline", START + 9, "room-3")])

    assert notice == Notice(
        "warn",
        "Room 3's device has not answered since {time}.",
        "Check that it has power and Wi-Fi.",
        START + 9,
    )


def test_missing_device_is_said_at_once() -> None:
    records = [*begun("room-3"), happened("agent-offline", START, "room-3")]

    assert troubles(records, now_s=START + 0.1).missing == ("room-3",)


def test_many_missing_devices_share_one_notice_with_the_first_moment() -> None:
    rooms = [f"room-{i}" for i in range(1, 13)]
    gone = [happened("agent-offline", START + 5 + i, room) for i, room in enumerate(rooms)]

    (notice,) = found([*begun(*rooms), *gone])

    assert notice.text.startswith("12 devices do not answer, the first of them since {time}: Room 1, Room 2, Room 3")
    assert notice.at == START + 5


def test_expected_device_that_never_came_is_missing_once_the_start_is_over() -> None:
    expecting = plan(required_agents=["room-1", "room-9"])
    begin = begun("room-1")

    assert troubles(begin, expecting, START - 3 + SETTLING_S - 1).missing == ()
    assert troubles(begin, expecting, START - 3 + SETTLING_S + 1).missing == ("room-9",)
    assert found(begin, expecting)[0].text == "Room 9's device has not been heard of in this run."


def test_devices_may_take_a_while_to_come_back_after_a_restart() -> None:
    records = [*begun("room-1"), happened("resumed", START + 100)]

    assert troubles(records, now_s=START + 101).missing == ()
    assert troubles(records, now_s=START + 100 + SETTLING_S + 1).missing == ("room-1",)


def test_silent_device_is_told_apart_from_a_missing_one() -> None:
    (notice,) = found([*begun("room-2"), happened("agent-silent", START + 50, "room-2")])

    assert notice.text == "Room 2's device is connected, but has sent no result since {time}."
    assert notice.at == START + 50


@pytest.mark.parametrize(
    ("reason", "words"),
    [("non-finite", "results that cannot be used"), ("unsupported-version", "another version of the program")],
)
def test_refused_device_is_named_for_the_technician(reason: str, words: str) -> None:
    (notice,) = found([*begun("room-5"), closed(1, ["room-5"], refused={"room-5": {reason: 2}})])

    assert words in notice.text
    assert "Ask your technician" in notice.todo


@pytest.mark.parametrize("reason", ["stale-round", "duplicate", "not-selected", "future-round", "wrong-run"])
def test_refusals_of_normal_life_are_not_mentioned(reason: str) -> None:
    assert found([*begun("room-5"), closed(1, ["room-5"], refused={"room-5": {reason: 2}})]) == []


def test_device_that_was_shut_out_is_named_until_it_is_let_back() -> None:
    records: list[Record] = [*begun("room-5"), closed(1, ["room-5"], refused={"room-5": {"non-finite": 9}})]
    records.append(happened("agent-quarantined", START + 9, "room-5", detail="9 messages of it had to be refused"))

    (notice,) = found(records)
    assert notice.text == "Room 5's device has been shut out: too much of what it sent could not be used."
    assert notice.todo.endswith("coordinator release room-5")

    records += [happened("agent-released", START + 19, "room-5"), *(closed(n, ["room-5"]) for n in range(2, 30))]
    assert found(records) == []


def test_refusal_of_long_ago_is_not_mentioned() -> None:
    records: list[Record] = [*begun("a", "b"), closed(1, refused={"a": {"non-finite": 1}})]
    records += [closed(number) for number in range(2, 30)]

    assert found(records) == []


def test_stranger_is_mentioned_without_alarm() -> None:
    (notice,) = found([*begun("a"), closed(1, ["a"], refused={"unknown": {"unknown-agent": 9}})])

    assert notice.level == "info"
    assert "not on the list" in notice.text


def test_hot_device_and_weak_power_are_told_apart() -> None:
    hot = found([*begun("room-1"), reported(1, "room-1", cpu_temperature_c=83.4, throttled=True)])
    weak = found([*begun("room-1"), reported(1, "room-1", cpu_temperature_c=50.0, throttled=True)])

    assert hot[0].text == "Room 1's device is too warm (83\N{NO-BREAK SPACE}°C) and slows itself down."
    assert "power supply" in weak[0].text


def test_slow_device_is_mentioned_when_a_person_would_notice() -> None:
    slow = found(run_of(3, {"room-1": 4.0, "room-2": 12.0}))
    hardly = found(run_of(3, {"room-1": 0.4, "room-2": 1.2}))

    assert [n.text for n in slow] == [
        "Room 2's device is slow: it needs 12 seconds a round, the others 4.0 seconds, and everybody waits for it."
    ]
    assert hardly == []


def test_round_that_takes_long_says_whom_it_waits_for() -> None:
    opened = happened("round-opened", START + 100, round_number=2)
    records = [*begun("room-1", "room-2"), closed(1, ["room-1", "room-2"]), opened, reported(2, "room-1")]

    assert found(records, now_s=START + 130) == []
    (notice,) = found(records, now_s=START + 161)
    assert notice.text == "Round 2 takes longer than usual; it began at {time}. It waits for Room 2."


def test_most_urgent_notice_comes_first() -> None:
    records = [*run_of(3, {"room-1": 4.0, "room-2": 12.0})[:-1], happened("broker-connected", START)]
    levels = [n.level for n in found([*records, happened("agent-offline", START + 90, "room-1")])]

    assert levels == ["warn", "info"]


def test_device_that_cannot_do_its_part_is_named_with_its_reason_until_it_delivers() -> None:
    failed = happened("agent-failed", START + 50, "room-2", detail="No space left on device")
    records: list[Record] = [*begun("room-2"), failed]

    (notice,) = found(records)
    assert notice.text == "Room 2's device cannot do its part since {time}."
    assert notice.todo.endswith("No space left on device")
    assert notice.at == START + 50

    assert found([*records, reported(2, "room-2")]) == []
