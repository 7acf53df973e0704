"""One sentence says how a run is, and a few how good its model is."""

import pytest

from coordinator.summary import Record
from coordinator.web import advice
from coordinator.web.advice import Headline
from coordinator.web.live_run import live_run
from coordinator.web.plan import plan_of
from coordinator.web.troubles import Troubles, find_troubles
from tests.unit.coordinator.recorded import RUN_ID, START, closed, happened
from tests.unit.coordinator.web.watched import begun, plan

NOW = START + 600


def headline(records: list[Record], *, running: bool = True, now_s: float = NOW, **rounds: object) -> Headline:
    live = live_run(records)
    speaks = running and live.broker_connected
    troubles = find_troubles(live, plan(**rounds), now_s) if speaks else Troubles()
    return advice.headline(live, plan(**rounds), running, troubles, now_s)


def opened(number: int = 1) -> Record:
    return happened("round-opened", START, round_number=number)


def test_everything_is_all_right_when_all_take_part() -> None:
    found = headline([*begun("a", "b"), closed(1), opened(2)])

    assert (found.level, found.text) == ("ok", "Everything is all right.")
    assert found.detail == "Round 2 of 25 is under way. 2 rooms take part."


def test_room_that_is_missing_wants_a_look_while_training_goes_on() -> None:
    found = headline([*begun("a", "b", "c"), opened(), happened("agent-offline", START + 1, "c")])

    assert (found.level, found.text) == ("warn", "Training goes on, but 1 room needs a look.")


def test_run_waits_for_its_first_rooms_without_alarm_and_with_one_later() -> None:
    first = headline(begun("a"), min_agents=3)
    later = headline([*begun("a", "b"), closed(1), happened("agent-offline", START + 9, "b")])

    assert (first.level, first.text) == ("info", "Training is waiting for rooms: 1 of the 3 needed are there.")
    assert (later.level, later.text) == ("warn", "Training is waiting for rooms: 1 of the 2 needed are there.")


def test_lost_broker_pauses_the_training() -> None:
    found = headline([*begun("a", "b"), happened("broker-lost", START + 30)])

    assert found.level == "bad"
    assert found.text == "Training is paused: the message server does not answer."
    assert found.at == START + 30


def test_start_without_a_broker_is_a_start_for_some_seconds_and_then_an_outage() -> None:
    records: list[Record] = [happened("started", START)]

    assert headline(records, now_s=START + 5).text == "Training is starting."
    assert headline(records, now_s=START + 30).level == "bad"


@pytest.mark.parametrize(
    ("event", "level", "text"),
    [
        ("finished", "ok", "Training is finished."),
        ("aborted", "bad", "Training has ended early."),
        ("stopped", "warn", "Training has been stopped."),
        ("resumed", "bad", "Training has stopped unexpectedly."),
    ],
)
def test_run_that_nobody_drives_any_more_says_how_it_ended(event: str, level: str, text: str) -> None:
    found = headline([*begun("a"), closed(1), happened(event, START + 50, detail="why")], running=False)

    assert (found.level, found.text) == (level, text)
    assert found.at == START + 50


def test_finished_run_says_whether_its_goal_was_reached() -> None:
    records = [*begun("a"), closed(1, accuracy=0.95), happened("finished", START + 50)]

    assert "after 1 round, with its goal reached" in headline(records, running=False).detail
    assert "goal" not in headline(records, running=False, target_accuracy=0.99).detail


def test_stopped_run_says_how_it_goes_on() -> None:
    found = headline([*begun("a"), happened("stopped", START + 50)], running=False)

    assert f"coordinator resume {RUN_ID}" in found.detail


def sentences(*accuracies: float | None, running: bool = True, **rounds: object) -> str:
    records = [closed(number, accuracy=accuracy) for number, accuracy in enumerate(accuracies, 1)]
    return " ".join(advice.model_sentences(live_run(records), plan(**rounds), running))


def test_model_is_described_by_right_answers_first_and_now_and_its_goal() -> None:
    assert sentences(0.32, 0.91) == (
        "The model gets 91 of 100 test examples right. After round 1 it was 32 of 100. It gets better. "
        "The goal of 90 of 100 is reached."
    )
    assert sentences(0.5, running=False) == (
        "The model gets 50 of 100 test examples right. The goal of 90 of 100 is not reached yet."
    )


def test_goal_that_is_missed_by_less_than_one_in_a_hundred_is_almost_reached() -> None:
    assert "The goal of 90 of 100 is almost reached." in sentences(0.896)


@pytest.mark.parametrize(
    ("accuracies", "words"),
    [
        ((0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), "It still gets better."),
        ((0.3, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9), "It has hardly changed lately."),
        ((0.3, 0.9, 0.5, 0.5, 0.5, 0.5, 0.5), "It has become worse lately."),
        ((0.4, 0.3), "It has not become better yet."),
    ],
)
def test_trend_compares_the_latest_rounds_with_those_before(accuracies: tuple[float, ...], words: str) -> None:
    assert words in sentences(*accuracies)


def test_model_that_is_not_measured_is_described_by_its_training_error() -> None:
    records = [closed(1, accuracy=None, train_loss=0.8), closed(2, accuracy=None, train_loss=0.3)]
    unmeasured = plan_of(RUN_ID, {"data": {"dataset": "none"}})

    found = " ".join(advice.model_sentences(live_run(records), unmeasured, True))

    assert found == (
        "How good the model is, is not measured in this run. "
        "The error on the rooms' own examples went from 0.80 to 0.30 (lower is better)."
    )
    assert advice.model_sentences(live_run([]), unmeasured, True) == ["The first round has not been finished yet."]
