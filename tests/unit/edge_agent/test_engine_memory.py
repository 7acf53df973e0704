"""What an agent carries from round to round, reports it keeps, and when it forgets either."""

import math

import numpy as np
import pytest

from edge_agent.events import (
    Carry,
    ForgetCarriesBefore,
    ForgetOtherRuns,
    ForgetUpdate,
    KeepUpdate,
    StartTraining,
)
from edge_agent.reports import KEPT_REPORTS
from schemas.topics import Kind
from tests.unit.edge_agent.scripted import (
    RUN,
    Agent,
    accepted,
    announced,
    arrived,
    carry,
    coordinator,
    model,
    refused,
    stood,
    trained,
)


def started_with(agent: Agent) -> float:
    """The carry that the last training started with; 0 for none."""
    (start,) = agent.of(StartTraining)
    return float(start.carry["momentum"][0]) if start.carry else 0.0


def test_carry_takes_effect_when_the_round_closed_with_the_update() -> None:
    agent = Agent()
    agent.through(1, carry(1))

    agent.take(announced(2, last_accepted_round=1), arrived(2))

    assert agent.of(ForgetUpdate) == [ForgetUpdate(RUN, 1, accepted=True)]
    assert started_with(agent) == 1


def test_carry_is_rolled_back_when_the_round_closed_without_the_update() -> None:
    agent = Agent()
    agent.through(1, carry(1))
    agent.through(2, carry(2), last_accepted_round=1)

    agent.take(announced(3, last_accepted_round=1), arrived(3))

    assert agent.of(ForgetUpdate) == [ForgetUpdate(RUN, 2, accepted=False)]
    assert started_with(agent) == 1


def test_carry_is_rolled_back_when_the_update_was_refused() -> None:
    agent = Agent()
    agent.through(1, carry(1))
    agent.take(announced(2, last_accepted_round=1), arrived(2))
    agent.take(trained(2, carry(2)))
    agent.take(refused(2))

    agent.take(announced(2, last_accepted_round=1, attempt=2), arrived(2))
    assert started_with(agent) == 1
    agent.take(announced(3, last_accepted_round=1), arrived(3))
    assert started_with(agent) == 1


def test_repeated_round_starts_from_the_same_carry_when_its_model_has_changed() -> None:
    agent = Agent()
    agent.through(1, carry(1))
    agent.through(2, carry(2), last_accepted_round=1)

    agent.take(announced(2, model(7), last_accepted_round=1, attempt=2), arrived(2, model(7)))

    assert started_with(agent) == 1


def test_training_starts_from_the_earlier_carry_when_the_coordinator_fell_back() -> None:
    agent = Agent()
    agent.take(coordinator("first"))
    agent.through(1, carry(1))
    agent.through(2, carry(2), last_accepted_round=1)
    agent.take(coordinator("second"))

    agent.take(announced(2, model(7), last_accepted_round=1), arrived(2, model(7)))

    assert started_with(agent) == 1


def test_training_starts_from_nothing_when_the_coordinator_fell_back_to_the_beginning() -> None:
    agent = Agent()
    agent.take(coordinator("first"))
    agent.through(1, carry(1))
    agent.take(announced(2, last_accepted_round=1))
    agent.take(coordinator("second"))

    agent.take(announced(1, model(7), last_accepted_round=0), arrived(1, model(7)))

    assert started_with(agent) == 0


def test_carry_survives_a_restart_and_still_waits_for_its_round_to_close() -> None:
    before = Agent()
    before.take(announced(), arrived())
    before.take(trained(1, carry(1)))
    kept = before.of(KeepUpdate)[0].update
    closed_with, closed_without = (Agent(kept, {}, RUN) for _ in range(2))

    closed_with.take(announced(2, last_accepted_round=1), arrived(2))
    closed_without.take(announced(2, last_accepted_round=0), arrived(2))

    assert started_with(closed_with) == 1
    assert started_with(closed_without) == 0


def test_earlier_carries_are_forgotten_when_a_later_one_took_effect() -> None:
    agent = Agent()
    agent.through(1, carry(1))
    agent.through(2, carry(2), last_accepted_round=1)

    agent.take(announced(3, last_accepted_round=2))

    assert agent.of(ForgetCarriesBefore) == [ForgetCarriesBefore(RUN, 2)]


def test_carry_stays_when_the_agent_was_not_selected_for_a_while() -> None:
    agent = Agent()
    agent.through(1, carry(1))

    agent.take(stood(4, last_accepted_round=1))
    agent.take(announced(6, last_accepted_round=1), arrived(6))

    assert started_with(agent) == 1


def test_everything_of_the_old_run_is_forgotten_when_another_one_begins() -> None:
    agent = Agent()
    agent.through(1, carry(1))
    agent.through(2, carry(2), last_accepted_round=1)

    agent.take(announced(2, model(3), run_id="run-2", last_accepted_round=1), arrived(2, model(3), "run-2"))

    assert agent.of(ForgetOtherRuns) == [ForgetOtherRuns("run-2")]
    assert agent.sent(Kind.REPORT) == []
    assert agent.engine.pending is None
    assert started_with(agent) == 0


def test_update_is_kept_when_the_run_is_stopped_to_be_resumed() -> None:
    agent = Agent()
    agent.through(1, carry(1))

    agent.take(stood(0))

    assert agent.of(ForgetUpdate) == []
    assert agent.engine.pending is not None


# -- reports


def reported(*rounds: int, carried: Carry | None = None) -> Agent:
    agent = Agent()
    for number in rounds:
        agent.through(number, carried, last_accepted_round=number - 1)
    return agent


def test_report_is_sent_when_the_receipt_comes() -> None:
    agent = Agent()
    agent.take(announced())
    agent.wait(1.0)
    agent.take(arrived())
    agent.wait(5.0)
    agent.take(trained())
    agent.wait(0.5)

    agent.take(accepted())

    report = agent.reports()[1]
    assert (report.download_s, report.train_s, report.upload_s) == (1.0, 5.0, 0.5)
    assert (report.batches, report.examples, report.loss) == (1, 7, 0.5)


def test_report_says_how_long_the_agent_had_nothing_to_do() -> None:
    agent = reported(1)
    agent.wait(30.0)

    agent.through(2, last_accepted_round=1)

    assert agent.reports()[2].idle_s == 30.0


def test_abandoned_work_does_not_count_as_having_nothing_to_do() -> None:
    agent = Agent()
    agent.take(announced(1), arrived(1))
    agent.wait(50.0)
    agent.take(stood(closed_round=1))
    agent.wait(3.0)

    agent.take(announced(2), arrived(2))
    agent.take(trained(2))
    agent.take(accepted(2))

    assert agent.reports()[2].idle_s == pytest.approx(3.0)


@pytest.mark.parametrize(("measured_c", "reported_c"), [(51.5, 51.5), (-273.0, None), (4000.0, None), (math.nan, None)])
def test_temperature_is_left_out_when_the_sensor_talks_nonsense(measured_c: float, reported_c: float | None) -> None:
    agent = Agent()
    agent.temperature_c = measured_c

    agent.through(1)

    assert agent.reports()[1].cpu_temperature_c == reported_c


def test_report_is_sent_when_the_update_was_refused() -> None:
    agent = Agent()
    agent.take(announced(), arrived())
    agent.take(trained())

    agent.take(refused())

    assert list(agent.reports()) == [1]


def test_report_is_sent_once_when_the_receipt_comes_twice() -> None:
    agent = reported(1)

    agent.take(accepted())
    agent.take(announced(attempt=2))
    agent.take(accepted())

    assert agent.reports() == {}


def test_reports_are_sent_again_when_the_agent_connects_until_they_are_recorded() -> None:
    agent = reported(1, 2, 3)
    agent.take(stood(3, last_accepted_round=3, recorded_reports=(1, 3)))

    agent.reconnect()

    assert list(agent.reports()) == [2]


@pytest.mark.parametrize(("recorded", "again"), [((), [1]), ((1,), []), ((1, 2), [])])
def test_reports_older_than_the_two_rounds_before_are_sent_again_when_a_round_is_announced(
    recorded: tuple[int, ...], again: list[int]
) -> None:
    agent = reported(1, 2, 3)

    agent.take(announced(4, last_accepted_round=3, recorded_reports=recorded))

    assert list(agent.reports()) == again


def test_oldest_reports_go_when_the_coordinator_records_none() -> None:
    agent = reported(*range(1, KEPT_REPORTS + 4))

    agent.reconnect()

    assert list(agent.reports()) == list(range(4, KEPT_REPORTS + 4))


def test_start_is_given_the_announced_weights_unchanged() -> None:
    agent = Agent()

    agent.take(announced(1, model(4)), arrived(1, model(4)))

    assert np.array_equal(agent.of(StartTraining)[0].weights["w"], model(4)["w"])
