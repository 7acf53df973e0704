"""The soak's plan of faults, its verdicts and its sums; what it breaks is broken in tests/integration."""

from dataclasses import asdict

import pytest

from benchmarks import soak
from benchmarks.output import picture_of
from benchmarks.result import Result
from benchmarks.soak_faults import ANYTIME, CALM_ROUNDS, FIRST_HALF, SECOND_HALF, Fault, Kind, plan_faults
from benchmarks.soak_world import KILLED, NUM_AGENTS, PARTIES, TARGETS
from benchmarks.steadiness import Sample, judge


def samples(rises: float = 0.0, files: float = 0.0, pid: int = 1, rounds: range = range(0, 1000, 10)) -> list[Sample]:
    """A process of 50 MB and ten files, plus so many MB and files for every round."""
    return [
        Sample("agent", pid, number / 2, number, 50.0 + rises * number, round(10 + files * number), 4)
        for number in rounds
    ]


def test_faults_are_the_same_for_the_same_seed_and_others_for_another() -> None:
    first, again, other = (plan_faults(2000, 15, seed, TARGETS) for seed in (1, 1, 2))

    assert first == again
    assert first != other
    assert [fault.round_number for fault in first] == sorted(fault.round_number for fault in first)


@pytest.mark.parametrize("seed", range(20))
def test_each_party_is_spared_by_one_half_of_the_run(seed: int) -> None:
    faults = plan_faults(2000, 15, seed, TARGETS)

    first, second = ({f.kind for f in faults if (2 * f.round_number < 2000) is half} for half in (True, False))
    assert first == set(FIRST_HALF)
    assert second == set(SECOND_HALF)
    assert 100 < len(faults) < 170
    assert faults[0].round_number >= CALM_ROUNDS
    assert faults[-1].round_number < 2000 - CALM_ROUNDS


def test_only_what_lasts_has_rounds_and_only_agents_that_may_be_killed_are() -> None:
    faults = [fault for seed in range(20) for fault in plan_faults(2000, 15, seed, TARGETS)]

    assert {f.kind for f in faults if f.lasts_rounds} == {Kind.HELD, Kind.AGENT_SUSPENDED}
    assert {f.target for f in faults if f.kind is Kind.AGENT_KILLED} == set(TARGETS.agents)
    assert {f.target for f in faults if f.kind not in ANYTIME} == {""}


def test_process_is_flat_when_it_only_grows_while_it_warms_up() -> None:
    warming = [
        Sample("agent", 1, number, number, 50.0 - max(0, 450 - number) / 9, 10, 4) for number in range(0, 1000, 5)
    ]

    steadiness = judge(warming)

    assert steadiness.flat is True
    assert steadiness.memory_mb.level == 50.0
    assert steadiness.memory_mb.per_1000_rounds == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("rises", "files"), [(0.0011, 0.0), (0.0, 0.002)])
def test_process_is_rising_when_a_round_leaves_a_kilobyte_or_now_and_then_a_file(rises: float, files: float) -> None:
    assert judge(samples()).flat is True
    assert judge(samples(rises, files)).flat is False


def test_longest_life_counts_and_a_short_one_says_nothing() -> None:
    short_and_leaking = samples(rises=1.0, pid=1, rounds=range(0, 90, 10))
    long_and_flat = samples(pid=2, rounds=range(100, 1000, 10))

    both = judge(short_and_leaking + long_and_flat)

    assert (both.lives, both.flat) == (2, True)
    assert judge(short_and_leaking).flat is None


def test_fault_costs_from_its_end_to_the_next_round_and_to_the_next_with_everybody() -> None:
    blow = soak.Blow(Fault(10, Kind.AGENT_KILLED, KILLED), at_s=5.0)
    blow.note_round(5.5, NUM_AGENTS)  # it is not over yet
    blow.over_at_s = 6.0
    for at_s, accepted in ((7.0, NUM_AGENTS - 1), (8.0, NUM_AGENTS), (9.0, NUM_AGENTS)):
        blow.note_round(at_s, accepted)

    cost = soak.costs([blow])["agent killed"]

    assert (cost["times"], cost["next_round_s_median"], cost["all_back_s_max"]) == (1, 1.0, 2.0)


def test_picture_has_a_line_for_every_life() -> None:
    details = {
        "samples": [
            asdict(sample) | {"party": party}
            for party in PARTIES
            for sample in samples(pid=1, rounds=range(50)) + samples(pid=2, rounds=range(60, 90))
        ],
        "faults": [{"round_number": 55}],
    }
    result = Result(settings={}, rows=[], columns=soak.COLUMNS, details=details)

    assert picture_of(result, soak.draw, soak.HEIGHT_IN).startswith(b"\x89PNG")
