"""FedAdam and FedYogi against Reddi et al. 2021, Algorithm 2, written out for three numbers."""

import numpy as np
import pytest

from learning.strategies.fedadam import FedAdam
from learning.strategies.fedyogi import FedYogi
from schemas.errors import ConfigError
from schemas.weights import Array
from tests.unit.learning.strategies.three_numbers import weights_of

UPDATES = ((1.0, -2.0, 0.0), (0.5, 0.5, -0.1), (-1.0, 0.25, 3.0))
NUMBERS = {"server_rate": 0.1, "beta1": 0.9, "beta2": 0.99, "tau": 0.01}


def algorithm_2(*, yogi: bool) -> list[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    x, m, v = np.zeros(3), np.zeros(3), np.full(3, 0.01**2)
    path = []
    for update in np.array(UPDATES):
        m = 0.9 * m + 0.1 * update
        v = v - 0.01 * update**2 * np.sign(v - update**2) if yogi else 0.99 * v + 0.01 * update**2
        x = x + 0.1 * m / (np.sqrt(v) + 0.01)
        path.append(x)
    return path


@pytest.mark.parametrize(("strategy", "yogi"), [(FedAdam(**NUMBERS), False), (FedYogi(**NUMBERS), True)])
def test_three_steps_follow_algorithm_2(strategy: FedAdam, yogi: bool) -> None:
    model, state = weights_of(0, 0, 0), dict[str, Array]()
    for update, expected in zip(UPDATES, algorithm_2(yogi=yogi), strict=True):
        step = strategy.step(model, {"w": model["w"] + np.array(update, np.float32)}, state)
        model, state = dict(step.weights), dict(step.state)

        np.testing.assert_allclose(model["w"], expected, rtol=1e-4, atol=1e-6)


def test_first_step_has_the_size_worked_out_by_hand() -> None:
    step = FedAdam(**NUMBERS).step(weights_of(0, 0, 0), weights_of(1, 0, -1), {})

    # m = 0.1, v = 0.99 * 0.0001 + 0.01 = 0.010099, so the step is 0.1 * 0.1 / (0.100494 + 0.01) = 0.0905.
    assert step.weights["w"].tolist() == pytest.approx([0.0905, 0.0, -0.0905], abs=1e-4)


def test_state_keeps_the_models_dtype() -> None:
    step = FedAdam().step(weights_of(0, 0, 0), weights_of(1, 1, 1), {})

    assert {array.dtype for array in step.state.values()} == {np.dtype(np.float32)}
    assert step.weights["w"].dtype == np.float32


def test_zero_tau_is_refused() -> None:
    with pytest.raises(ConfigError, match="'tau'"):
        FedYogi(tau=0.0)
