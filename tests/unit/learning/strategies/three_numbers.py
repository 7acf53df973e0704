"""A model of three numbers and agents whose loss is half the squared distance to a point of their own.

An agent's gradient is then w - its point, so that whole runs can be worked out with a few lines of NumPy.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch

from coordinator.aggregation import ExactMean
from learning.strategies.strategy import LocalRound, RoundStart, State, Strategy
from schemas.weights import Array, Weights

POINTS = ((1.0, -2.0, 0.5), (3.0, 0.0, -1.0), (-0.5, 4.0, 2.0))
CURVES = (1.0, 3.0, 0.25)
"""How steep each agent's bowl is: with unequal ones, local steps pull the mean away from the optimum."""

EXAMPLES = (1, 1, 1)


def weights_of(*numbers: float) -> dict[str, Array]:
    return {"w": np.array(numbers, np.float32)}


def gradient_of(agent: int, weights: torch.Tensor, step: int) -> torch.Tensor:
    return CURVES[agent] * (weights - torch.tensor(POINTS[agent])) + 0.0 * step


def optimum() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Where the agents' gradients cancel."""
    curves = np.array(CURVES)[:, np.newaxis]
    best: np.ndarray[tuple[int], np.dtype[np.float64]] = (curves * np.array(POINTS)).sum(axis=0) / curves.sum()
    return best


def train_locally(local: LocalRound, agent: int, model: Weights, batches: int) -> dict[str, Array]:
    """What `learning.training.Trainer` does, with the bowl's gradient."""
    parameter = torch.tensor(model["w"])
    for step in range(batches):
        gradients = {"w": gradient_of(agent, parameter, step)}
        local.correct(gradients, {"w": parameter}, step)
        parameter.add_(gradients["w"], alpha=-local.rate(step))
    return local.upload({"w": parameter.numpy().copy()})


class Federation:
    """Coordinator and three agents, with the carry rules of the real ones, in plain calls."""

    def __init__(self, strategy: Strategy, batches: int = 4, rate: float = 0.1) -> None:
        self.strategy, self.batches, self.learning_rate = strategy, batches, rate
        self.model: Weights = weights_of(0, 0, 0)
        self.state: State = {}
        self.carries: list[Mapping[str, Array]] = [{}, {}, {}]
        self.carried = [0, 0, 0]
        self.round_number = 0

    def play(self, taking_part: Collection[int] = (0, 1, 2)) -> None:
        """One round with these agents."""
        self.round_number += 1
        mean = ExactMean(self.model)
        for agent in taking_part:
            start = RoundStart(
                self.round_number,
                self.model,
                self.carries[agent],
                self.carried[agent],
                self.batches,
                self.learning_rate,
            )
            local = self.strategy.local_round(start)
            mean.add(train_locally(local, agent, self.model, self.batches), EXAMPLES[agent])
            self.carries[agent], self.carried[agent] = local.carry(), self.round_number
        step = self.strategy.step(self.model, mean.result(), self.state)
        self.model, self.state = step.weights, step.state

    def play_rounds(self, who: Sequence[Collection[int]]) -> None:
        for taking_part in who:
            self.play(taking_part)

    def saved(self) -> dict[str, object]:
        """Everything that lives from round to round, as copies, as a checkpoint and the spools would hold it."""
        return {
            "model": {name: array.copy() for name, array in self.model.items()},
            "state": {name: array.copy() for name, array in self.state.items()},
            "carries": [{name: array.copy() for name, array in carry.items()} for carry in self.carries],
            "carried": list(self.carried),
            "round_number": self.round_number,
        }

    @classmethod
    def restored(cls, strategy: Strategy, saved: Mapping[str, object]) -> "Federation":
        federation = cls(strategy)
        for name, value in saved.items():
            setattr(federation, name, value)
        return federation
