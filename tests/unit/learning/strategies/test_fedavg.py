"""FedAvg and the options that all strategies share, against arithmetic written out here."""

import numpy as np
import pytest
import torch

from learning.strategies.fedavg import FedAvg
from learning.strategies.rates import Rates
from learning.strategies.strategy import LocalRound, RoundStart, clip_norm
from schemas.errors import ConfigError
from tests.unit.learning.strategies.three_numbers import CURVES, POINTS, Federation, weights_of


def start(round_number: int = 1, local_batches: int = 4, learning_rate: float = 0.1) -> RoundStart:
    return RoundStart(round_number, weights_of(0, 0, 0), {}, 0, local_batches, learning_rate)


def test_step_takes_the_aggregate_as_it_is() -> None:
    aggregate = weights_of(1, 2, 3)

    step = FedAvg().step(weights_of(9, 9, 9), aggregate, {})

    assert step.weights is aggregate
    assert step.state == {}


def test_round_of_three_agents_is_the_mean_of_their_descents() -> None:
    federation = Federation(FedAvg(), batches=2, rate=0.1)

    federation.play()

    # After two steps of w <- w - 0.1 a (w - p) from 0, w = p (1 - (1 - 0.1 a)^2).
    expected = np.mean([np.array(p) * (1 - (1 - 0.1 * a) ** 2) for p, a in zip(POINTS, CURVES, strict=True)], axis=0)
    np.testing.assert_allclose(federation.model["w"], expected, rtol=1e-6)


def test_agent_carries_nothing() -> None:
    assert FedAvg().local_round(start()).carry() == {}


def test_rate_falls_within_the_round_and_from_round_to_round() -> None:
    rates = Rates(learning_rate=0.1, local_batches=4, end=0.0, decay=0.5)

    assert [rates.rate(1, step) for step in range(4)] == pytest.approx([0.1, 0.075, 0.05, 0.025])
    assert rates.rate(3, 0) == pytest.approx(0.025)
    assert rates.total(1, 2) == pytest.approx(0.25 + 0.125)


def test_rate_of_a_local_round_is_that_of_its_round() -> None:
    local = FedAvg(rate_decay=0.5).local_round(start(round_number=2))

    assert local.rate(3) == pytest.approx(0.05)


def test_gradient_beyond_the_limit_is_shrunk_to_it_in_its_direction() -> None:
    gradients = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([[4.0]])}

    clip_norm(gradients, 2.0)

    assert gradients["a"].tolist() == pytest.approx([1.2, 0.0])
    assert gradients["b"].tolist() == [[pytest.approx(1.6)]]


def test_gradient_within_the_limit_is_left_alone() -> None:
    local = FedAvg(clip=5.0).local_round(start())
    gradients = {"a": torch.tensor([3.0, 4.0])}

    local.correct(gradients, {}, 0)

    assert gradients["a"].tolist() == [3.0, 4.0]
    assert isinstance(local, LocalRound)


@pytest.mark.parametrize(
    ("option", "value"), [("clip", -1.0), ("rate_end", 1.5), ("rate_decay", 0.0), ("zero_last", 0.5), ("clip", np.nan)]
)
def test_option_out_of_its_range_is_refused_by_name(option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"'{option}' of strategy 'fedavg'"):
        FedAvg(**{option: value})
