"""Adam on the agent against torch's own, and that its moments begin anew each round."""

import numpy as np
import torch

from learning.strategies.localadam import LocalAdam
from learning.strategies.strategy import RoundStart
from tests.unit.learning.strategies.three_numbers import CURVES, POINTS, train_locally, weights_of


def trained(round_number: int) -> list[float]:
    start = RoundStart(round_number, weights_of(0, 0, 0), {}, 0, local_batches=5, learning_rate=0.3)
    local = LocalAdam(local_beta1=0.7, local_beta2=0.9).local_round(start)
    result: list[float] = train_locally(local, 0, weights_of(0, 0, 0), 5)["w"].tolist()
    return result


def test_five_steps_are_those_of_torchs_adam() -> None:
    parameter = torch.zeros(3, requires_grad=True)
    optimiser = torch.optim.Adam([parameter], lr=0.3, betas=(0.7, 0.9))
    for _ in range(5):
        parameter.grad = CURVES[0] * (parameter.detach() - torch.tensor(POINTS[0]))
        optimiser.step()

    np.testing.assert_allclose(trained(1), parameter.detach().numpy(), rtol=1e-5)


def test_first_step_is_the_rate_in_every_number() -> None:
    start = RoundStart(1, weights_of(0, 0, 0), {}, 0, local_batches=1, learning_rate=0.3)

    moved = train_locally(LocalAdam().local_round(start), 0, weights_of(0, 0, 0), 1)["w"]

    np.testing.assert_allclose(moved, 0.3 * np.sign(POINTS[0]), rtol=1e-5)


def test_later_round_begins_with_fresh_moments() -> None:
    assert trained(4) == trained(1)
