"""Agent momentum: the direction recovered from broadcasts is the one that was taken."""

import numpy as np

from learning.strategies.agentmomentum import AgentMomentum
from learning.strategies.fedavg import FedAvg
from learning.strategies.strategy import RoundStart
from tests.unit.learning.strategies.three_numbers import CURVES, POINTS, Federation, weights_of

CURVE = np.array(CURVES)[:, np.newaxis]


def test_three_rounds_follow_independent_arithmetic() -> None:
    federation = Federation(AgentMomentum(momentum=0.8), batches=2, rate=0.1)
    x, direction = np.zeros(3), np.zeros(3)
    for _ in range(3):
        federation.play()
        y = np.tile(x, (3, 1))
        for _ in range(2):
            y = y - 0.1 * (CURVE * (y - np.array(POINTS)) + 0.8 * direction)
        direction, x = (x - y.mean(axis=0)) / 0.2, y.mean(axis=0)

    np.testing.assert_allclose(federation.model["w"], x, rtol=1e-5)


def test_falling_rates_are_taken_out_of_the_direction() -> None:
    strategy = AgentMomentum(momentum=1 / 2, rate_end=0.0, rate_decay=0.5)
    carry = {"base/w": np.array([1, 2, 3], np.float32)}

    local = strategy.local_round(RoundStart(2, weights_of(0, 2, 4), carry, 1, local_batches=2, learning_rate=0.4))

    # Round 1's rates were 0.4 and 0.2: the direction is (1, 0, -1) / 0.6, and half of it is added.
    shift = local.shift()["w"]  # type: ignore[attr-defined]  # a LocalRound that has one
    np.testing.assert_allclose(shift, np.array([1, 0, -1]) / 1.2, rtol=1e-6)


def test_direction_after_missed_rounds_is_the_mean_over_them() -> None:
    carry = {"base/w": np.array([1, 2, 3], np.float32)}

    start = RoundStart(5, weights_of(0, 2, 4), carry, carried_round=2, local_batches=2, learning_rate=0.1)
    local = AgentMomentum(momentum=0.5).local_round(start)

    # Three rounds of two batches at rate 0.1 have passed.
    shift = local.shift()["w"]  # type: ignore[attr-defined]  # a LocalRound that has one
    np.testing.assert_allclose(shift, 0.5 * np.array([1, 0, -1]) / 0.6, rtol=1e-6)


def test_agent_without_a_carry_trains_as_in_federated_averaging() -> None:
    momentum, plain = Federation(AgentMomentum()), Federation(FedAvg())
    momentum.play()
    plain.play()

    assert momentum.model["w"].tolist() == plain.model["w"].tolist()
