"""Momentum on the agents: each local step also goes where the global model went."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from learning.strategies.strategy import LocalRound, RoundStart, Strategy, is_trained, named, ungroup
from schemas.weights import Array

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class AgentMomentum(Strategy):
    """Every batch's gradient gets beta times the last global direction, so that agents pull together from step one.

    After Xu, Wang, Wang, Yao, "FedCM: Federated Learning with Client-level Momentum", 2021, arXiv:2106.10874,
    Algorithm 1, with the sum g + beta d in place of their a g + (1 - a) d. With R_s the sum of round s's learning
    rates and x_s the model at its start, the global direction of round s is d_s = (x_s - x_{s+1}) / R_s: a gradient,
    which the agent works out from two broadcasts, so no bytes are spent. An agent that missed rounds takes
    the mean direction since the last round that closed with its update, r: (x_r - x_t) / (R_r + ... + R_{t-1}). One
    that knows no earlier model trains without.

    Carry: `base/<tensor>`, x_s.

    Attributes:
        momentum: beta, 0 for FedAvg.
    """

    name: ClassVar[str] = "agentmomentum"
    citation: ClassVar[str] = "after Xu et al. 2021, Algorithm 1"

    momentum: float = 0.7

    def __post_init__(self) -> None:
        """As the base, and beta below 1."""
        super().__post_init__()
        self.require("momentum", 0.0, 0.999)

    def local_round(self, start: RoundStart) -> LocalRound:
        """Local training along the last direction."""
        return AlongTheDirection(self, start)


class AlongTheDirection(LocalRound):
    """A round in which every gradient is moved by something that is fixed for the round: here the global direction."""

    def __init__(self, strategy: AgentMomentum, start: RoundStart) -> None:
        super().__init__(strategy, start)
        self.momentum = strategy.momentum
        self.trained = {name: array for name, array in start.model.items() if is_trained(name, array)}
        self.direction = self._last_direction()
        self._shift: dict[str, Tensor] = {}

    def _last_direction(self) -> dict[str, Array]:
        """The mean global direction since the round that the carry is from; empty when that is not known."""
        base = ungroup("base", self.start.carry)
        if base.keys() != self.trained.keys():
            return {}
        rates = self.rates.total(self.start.carried_round, self.start.round_number - 1)
        scale = np.float32(1 / rates)
        return {name: (base[name] - now) * scale for name, now in self.trained.items()}

    def shift(self) -> dict[str, Array]:
        """What is added to every gradient of the round; missing tensors get nothing."""
        beta = np.float32(self.momentum)
        return {name: beta * direction for name, direction in self.direction.items()}

    def adjust(self, gradients: "Mapping[str, Tensor]", parameters: "Mapping[str, Tensor]", step: int) -> None:
        """Add the round's shift."""
        if step == 0:
            self._shift = {name: parameters[name].new_tensor(array) for name, array in self.shift().items()}
        for name, gradient in gradients.items():
            if name in self._shift:
                gradient.add_(self._shift[name])

    def carry(self) -> dict[str, Array]:
        """The model that the round started from."""
        return named("base", self.trained)
