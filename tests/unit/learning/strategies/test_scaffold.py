"""SCAFFOLD against the paper's algorithm with variates sent both ways, and what becomes of it when agents are missing.

`Paper` is Algorithm 1 with option II written out in NumPy, knowing everything that the real agents have to recover.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch

from learning.strategies.fedavg import FedAvg
from learning.strategies.scaffold import Scaffold
from learning.strategies.strategy import RoundStart
from tests.unit.learning.strategies.three_numbers import CURVES, POINTS, Federation, optimum

Floats = npt.NDArray[np.float64]
CURVE, POINT = np.array(CURVES)[:, np.newaxis], np.array(POINTS)
BATCHES, RATE = 4, 0.1
ALL = (0, 1, 2)


class Paper:
    def __init__(self, momentum: float = 0.0) -> None:
        self.x, self.c, self.c_k = np.zeros(3), np.zeros(3), np.zeros((3, 3))
        self.momentum, self.direction = momentum, np.zeros(3)

    def play(self) -> None:
        y = np.tile(self.x, (3, 1))
        push = self.momentum * self.direction
        for _ in range(BATCHES):
            y = y - RATE * (CURVE * (y - POINT) - self.c_k + self.c + push)
        c_k_after = self.c_k - self.c + (self.x - y) / (BATCHES * RATE) - push
        self.c = self.c + (c_k_after - self.c_k).mean(axis=0)
        self.c_k = c_k_after
        self.direction = (self.x - y.mean(axis=0)) / (BATCHES * RATE)
        self.x = y.mean(axis=0)


def test_run_with_everybody_is_the_papers_though_no_variate_is_sent() -> None:
    paper, federation = Paper(), Federation(Scaffold(), BATCHES, RATE)
    for _ in range(12):
        paper.play()
        federation.play()

        np.testing.assert_allclose(federation.model["w"], paper.x, rtol=1e-4, atol=1e-5)


def test_run_with_momentum_is_the_papers_with_a_push_added() -> None:
    paper, federation = Paper(momentum=0.5), Federation(Scaffold(momentum=0.5), BATCHES, RATE)
    for _ in range(12):
        paper.play()
        federation.play()

        np.testing.assert_allclose(federation.model["w"], paper.x, rtol=1e-4, atol=2e-5)


def test_variate_is_the_mean_of_the_rounds_own_gradients() -> None:
    paper, federation = Paper(), Federation(Scaffold(), BATCHES, RATE)
    for _ in range(3):
        paper.play()
        federation.play()

    for agent in ALL:
        np.testing.assert_allclose(federation.carries[agent]["variate/w"], paper.c_k[agent], rtol=1e-4, atol=1e-5)


def error_after(strategy: Scaffold | FedAvg, who: Sequence[tuple[int, ...]]) -> float:
    federation = Federation(strategy, BATCHES, RATE)
    federation.play_rounds(who)
    return float(np.linalg.norm(federation.model["w"] - optimum()))


def test_everybody_reaches_the_optimum_that_federated_averaging_misses() -> None:
    # Steeper bowls pull harder in several local steps, which moves FedAvg's resting point.
    assert error_after(FedAvg(), [ALL] * 150) > 0.1
    assert error_after(Scaffold(), [ALL] * 150) < 1e-4


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("missing", [1, 2, 5])
def test_agent_that_missed_rounds_leaves_no_lasting_error(momentum: float, missing: int) -> None:
    who = [ALL] * 5 + [(0, 1)] * missing + [ALL] * 200

    assert error_after(Scaffold(momentum=momentum), who) < 1e-4


def test_recovered_variate_that_stays_in_the_upload_would_leave_one() -> None:
    # What the docstring says of the plain way: y_k is sent, c recovered as d_t. The one round without agent 2 is
    # enough to keep the run away from the optimum for good.
    x, direction, c_k = np.zeros(3), np.zeros(3), np.zeros((3, 3))
    for number in range(300):
        present = [0, 1] if number == 5 else [0, 1, 2]
        y = np.tile(x, (3, 1))
        gradients = np.zeros((3, 3))
        for _ in range(BATCHES):
            gradient = CURVE * (y - POINT)
            y = y - RATE * (gradient - c_k + direction)
            gradients += gradient / BATCHES
        c_k[present] = gradients[present]
        mean = y[present].mean(axis=0)
        direction, x = (x - mean) / (BATCHES * RATE), mean

    assert np.linalg.norm(x - optimum()) > 0.04


def test_aggregate_is_the_step_along_the_gradients_of_those_who_took_part() -> None:
    federation = Federation(Scaffold(), BATCHES, RATE)
    federation.play_rounds([ALL, ALL, (0, 2), (1, 2)])
    before = federation.model["w"].copy()

    federation.play([0, 1])

    gradients = [federation.carries[agent]["variate/w"] for agent in (0, 1)]
    expected = before - BATCHES * RATE * np.mean(gradients, axis=0)
    np.testing.assert_allclose(federation.model["w"], expected, rtol=1e-5, atol=1e-6)


def test_agent_that_lost_its_carry_trains_one_round_uncorrected_and_recovers() -> None:
    federation = Federation(Scaffold(momentum=0.5), BATCHES, RATE)
    federation.play_rounds([ALL] * 5)
    federation.carries[1], federation.carried[1] = {}, 0
    federation.play_rounds([ALL] * 200)

    assert float(np.linalg.norm(federation.model["w"] - optimum())) < 1e-4


def test_buffer_that_has_no_gradient_is_sent_as_it_is() -> None:
    model = {"w": np.ones(3, np.float32), "level": np.array([5], np.float32)}
    carry = {f"{group}/{name}": array * 2 for name, array in model.items() for group in ("base", "variate")}
    local = Scaffold().local_round(RoundStart(2, model, carry, 1, 1, 0.1))
    local.correct({"w": torch.ones(3)}, {"w": torch.ones(3), "level": torch.ones(1)}, 0)

    sent = local.upload(model)

    # The direction is (2 - 1) / 0.1 = 10, so the correction is 10 - 2 and the upload has 0.1 times that added.
    np.testing.assert_allclose(sent["w"], 1.8, rtol=1e-6)
    assert sent["level"].tolist() == [5]
