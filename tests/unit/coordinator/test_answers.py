"""Ready answers from records: what they say of runs in which something is missing, too."""

import pytest

from coordinator import answers
from coordinator.answers import DeviceMegabytes, Refusal
from schemas.errors import ConfigError
from tests.unit.coordinator.recorded import START, closed, reported, run_of, started_at


def test_straggler_has_the_start_of_its_streak_when_it_holds_the_run_up() -> None:
    found = answers.straggler(run_of(4, {"a": 1.0, "b": 3.0}))

    assert found is not None
    assert (found.straggler.agent_id, found.since_at) == ("b", started_at(1))


def test_straggler_is_none_when_devices_are_alike() -> None:
    assert answers.straggler(run_of(4, {"a": 1.0, "b": 1.1})) is None


def test_month_ends_with_the_year_when_it_is_december() -> None:
    start_s, end_s = answers.month_bounds("2023-12")

    assert end_s - start_s == 31 * 86_400


@pytest.mark.parametrize("month", ["2023", "2023-13", "november"])
def test_month_is_refused_when_it_is_none(month: str) -> None:
    with pytest.raises(ConfigError, match="expected year and month"):
        answers.month_bounds(month)


def test_megabytes_leave_out_what_was_before_and_after_the_month() -> None:
    runs = [[reported(1, "a"), reported(2, "a"), reported(3, "b")], [reported(2, "a", packet_bytes_up=2_000_000)]]

    found = answers.megabytes(runs, started_at(2), started_at(3))

    assert found == [DeviceMegabytes(agent_id="a", mb_up=2.001, mb_down=0.0017)]


def test_pace_is_empty_when_there_was_no_round() -> None:
    now, before = answers.pace([run_of(3, {"a": 1.0})], START + 30 * 86_400)

    assert (now.rounds, now.mean_s, before.rounds, before.max_s) == (0, None, 0, None)


def test_refusals_name_their_rounds_when_repeated() -> None:
    records = [closed(1, refused={"a": {"duplicate": 1}}), closed(2), closed(3, refused={"a": {"duplicate": 2}})]

    assert answers.refusals(records) == [
        Refusal(agent_id="a", reason="duplicate", messages=3, first_round=1, last_round=3)
    ]


def test_progress_is_none_when_nothing_was_evaluated() -> None:
    assert answers.progress([closed(1, accuracy=None)]) is None


def test_progress_counts_the_rounds_needed_when_accuracy_rises() -> None:
    found = answers.progress(
        [closed(n, accuracy=0.5 + 0.05 * n, target_accuracy=0.9, rounds_planned=20) for n in range(1, 5)]
    )

    assert found is not None
    assert found.missing == pytest.approx(0.2)
    assert found.gain_per_round == pytest.approx(0.05)
    assert (found.rounds_left, found.rounds_needed) == (16, 4)


@pytest.mark.parametrize(
    ("accuracies", "target", "needed"),
    [((0.8,), 0.9, None), ((0.8, 0.7), 0.9, None), ((0.8, 0.95), 0.9, 0), ((0.8, 0.95), None, None)],
    ids=["one round", "it falls", "reached", "no target"],
)
def test_progress_promises_nothing_when_there_is_no_pace(
    accuracies: tuple[float, ...], target: float | None, needed: int | None
) -> None:
    found = answers.progress([closed(n, accuracy=a, target_accuracy=target) for n, a in enumerate(accuracies, 1)])

    assert found is not None
    assert found.rounds_needed == needed


def test_progress_says_nothing_of_the_end_when_record_is_older() -> None:
    found = answers.progress([closed(1)])

    assert found is not None
    assert (found.target_accuracy, found.missing, found.rounds_left) == (None, None, None)
