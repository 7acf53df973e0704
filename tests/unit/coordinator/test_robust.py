"""Robust aggregation on models of three numbers, against the papers' arithmetic done by hand."""

import numpy as np
import pytest

from coordinator.aggregation import inspect
from coordinator.robust import RULES, Krum, NormClipping, RobustAggregate, Rule, TrimmedMean, fewest_updates, median
from schemas.errors import PayloadError, Reason
from schemas.weights import Array


def model(*values: float) -> dict[str, Array]:
    return {"w": np.array(values, np.float32)}


ZERO = model(0, 0, 0)
HONEST = (model(1, 10, -1), model(2, 20, -2), model(3, 30, -3), model(4, 40, -6))
ATTACK = model(-1000, 1000, 1000)


def aggregate(rule: Rule, *updates: dict[str, Array], reference: dict[str, Array] = ZERO) -> dict[str, Array]:
    kept = RobustAggregate(reference, rule, 100)
    for update in updates:
        kept.add(update, 7)
    return kept.result()


def test_median_of_five_is_the_third_of_each_coordinate() -> None:
    assert aggregate(median, *HONEST, ATTACK)["w"].tolist() == [2, 30, -2]


def test_median_of_four_is_the_mean_of_the_two_in_the_middle() -> None:
    assert aggregate(median, *HONEST)["w"].tolist() == [2.5, 25, -2.5]


def test_trimmed_mean_leaves_out_the_smallest_and_largest_of_each_coordinate() -> None:
    # 1, 2, 3 | 20, 30, 40 | -3, -2, -1 remain of five.
    assert aggregate(TrimmedMean(1), *HONEST, ATTACK)["w"].tolist() == [2, 30, -2]
    # -2 and -3 of -1, -2, -3, -6; with two left out at either end of four, what is left is the median.
    assert aggregate(TrimmedMean(1), *HONEST)["w"].tolist() == [2.5, 25, -2.5]
    assert aggregate(TrimmedMean(2), *HONEST)["w"].tolist() == [2.5, 25, -2.5]


def test_trimmed_mean_of_no_attackers_is_the_plain_mean() -> None:
    assert aggregate(TrimmedMean(0), *HONEST)["w"].tolist() == [2.5, 25, -3]


LINE = (model(0, 0, 0), model(1, 0, 0), model(3, 0, 0), model(7, 0, 0), model(100, 0, 0))


def test_krum_scores_are_the_squared_distances_to_the_closest_neighbours() -> None:
    # n - f - 2 = 2 neighbours: 1 + 9, 1 + 4, 4 + 9, 16 + 36, 93^2 + 97^2.
    assert Krum(1).scores(LINE) == pytest.approx([10, 5, 13, 52, 18058], rel=1e-5)


def test_krum_is_the_update_of_the_smallest_score() -> None:
    assert aggregate(Krum(1), *LINE)["w"].tolist() == [1, 0, 0]


def test_multi_krum_is_the_mean_of_all_but_the_worst() -> None:
    assert aggregate(Krum(1, many=True), *LINE)["w"].tolist() == [2.75, 0, 0]


def test_krum_of_one_update_is_that_update() -> None:
    assert aggregate(Krum(1), LINE[3])["w"].tolist() == [7, 0, 0]


def test_norm_clipping_draws_updates_nearer_to_the_model() -> None:
    # From (1, 0, 0): steps of 2, 4 and 40; the last two are cut to 2.
    reference = model(1, 0, 0)
    updates = (model(3, 0, 0), model(1, 4, 0), model(1, 0, -40))

    found = aggregate(NormClipping(2.0), *updates, reference=reference)["w"]

    np.testing.assert_allclose(found, [1 + 2 / 3, 2 / 3, -2 / 3], rtol=1e-6)


def test_norm_clipping_without_a_norm_takes_the_median_of_the_rounds_norms() -> None:
    found = aggregate(NormClipping(), model(3, 0, 0), model(0, 4, 0), model(0, 0, 40))["w"]

    np.testing.assert_allclose(found, [1, 4 / 3, 4 / 3], rtol=1e-6)


def test_half_precision_and_counters_keep_their_dtype() -> None:
    reference: dict[str, Array] = {"h": np.zeros(2, np.float16), "n": np.array(0, np.int64)}
    updates: list[dict[str, Array]] = [
        {"h": np.array([i, -i], np.float16), "n": np.array(2**62 + i)} for i in (1, 2, 3, 4)
    ]

    for name, make in RULES.items():
        result = aggregate(make(1, None), *updates, reference=reference)
        assert [(array.dtype, array.shape) for array in result.values()] == [
            (array.dtype, array.shape) for array in reference.values()
        ]
        if "krum" not in name:
            assert int(result["n"]) == 2**62 + 2


@pytest.mark.parametrize("name", RULES)
def test_what_an_agent_claims_to_have_gives_it_no_more_say(name: str) -> None:
    modest, greedy = (RobustAggregate(ZERO, RULES[name](1, None), 10) for _ in range(2))
    for index, update in enumerate((*HONEST, ATTACK)):
        modest.add(update, 1)
        greedy.add(update, 2**31 if index == 4 else 1)

    assert modest.result()["w"].tobytes() == greedy.result()["w"].tobytes()
    assert greedy.num_examples == 4 + 2**31


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("attack", [ATTACK, model(1e30, 0, 0), model(-3, -30, 3)])
def test_one_attacker_of_five_moves_no_rule_out_of_the_others_reach(name: str, attack: dict[str, Array]) -> None:
    found = aggregate(RULES[name](1, None), *HONEST, attack)["w"]

    assert np.linalg.norm(found) <= max(np.linalg.norm(update["w"]) for update in HONEST)
    assert found[1] > 0


def test_too_many_updates_are_refused_and_change_nothing() -> None:
    kept = RobustAggregate(ZERO, median, 2)
    kept.add(HONEST[0], 1)
    kept.add(HONEST[1], 1)

    with pytest.raises(PayloadError) as caught:
        kept.add(HONEST[2], 1)

    assert caught.value.reason is Reason.TOO_LARGE
    assert (kept.num_updates, kept.num_examples, kept.result()["w"].tolist()) == (2, 2, [1.5, 15, -1.5])


@pytest.mark.parametrize(
    ("update", "examples", "reason"),
    [
        (model(np.inf, 0, 0), 1, Reason.NON_FINITE),
        (model(0, 0), 1, Reason.WRONG_SHAPE),
        ({"v": np.zeros(3, np.float32)}, 1, Reason.WRONG_NAMES),
        (model(0, 0, 0), 0, Reason.WRONG_EXAMPLES),
    ],
)
def test_update_that_cannot_be_counted_is_refused(update: dict[str, Array], examples: int, reason: Reason) -> None:
    kept = RobustAggregate(ZERO, median, 2)

    with pytest.raises(PayloadError) as caught:
        kept.add(update, examples)

    assert (caught.value.reason, kept.num_updates) == (reason, 0)


def test_inspection_of_other_weights_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="other weights"):
        RobustAggregate(ZERO, median, 2).add(HONEST[0], 1, inspect(HONEST[1], ZERO))


def test_aggregate_of_nothing_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="no aggregate"):
        RobustAggregate(ZERO, median, 2).result()


@pytest.mark.parametrize(("rule", "fewest"), [("mean", 1), ("median", 5), ("trimmed-mean", 5), ("krum", 7)])
def test_rules_withstand_two_attackers_from_so_many_updates_on(rule: str, fewest: int) -> None:
    assert fewest_updates(rule, 2) == fewest
