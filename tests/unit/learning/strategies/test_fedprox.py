"""The proximal term against its closed form in a bowl."""

import numpy as np

from learning.strategies.fedavg import FedAvg
from learning.strategies.fedprox import FedProx
from tests.unit.learning.strategies.three_numbers import CURVES, POINTS, Federation


def test_two_rounds_follow_independent_arithmetic() -> None:
    federation = Federation(FedProx(proximity=2.0), batches=3, rate=0.1)
    curves, points = np.array(CURVES)[:, np.newaxis], np.array(POINTS)
    w = np.zeros(3)
    for _ in range(2):
        federation.play()
        local = np.tile(w, (3, 1))
        for _ in range(3):
            local = local - 0.1 * (curves * (local - points) + 2.0 * (local - w))
        w = local.mean(axis=0)

    np.testing.assert_allclose(federation.model["w"], w, rtol=1e-5)


def test_many_steps_end_at_the_minimum_of_loss_and_term() -> None:
    federation = Federation(FedProx(proximity=1.0), batches=400, rate=0.1)

    federation.play([0])

    # The minimum of a/2 (w - p)^2 + mu/2 w^2 is a p / (a + mu).
    np.testing.assert_allclose(federation.model["w"], np.array(POINTS[0]) * CURVES[0] / (CURVES[0] + 1), rtol=1e-5)


def test_no_proximity_is_federated_averaging() -> None:
    with_term, without = Federation(FedProx(proximity=0.0)), Federation(FedAvg())
    with_term.play()
    without.play()

    assert with_term.model["w"].tolist() == without.model["w"].tolist()
