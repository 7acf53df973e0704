"""Federated averaging with momentum on the coordinator."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from learning.strategies.strategy import State, Step, Strategy, is_trained, named, ungroup
from schemas.weights import Weights


@dataclass(frozen=True, kw_only=True)
class FedAvgM(Strategy):
    """The coordinator goes on in the direction of earlier rounds.

    Hsu, Qi, Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification",
    2019, arXiv:1909.06335, section 4.3: v <- beta v + dw, w <- w - v, with dw = sum over k of (n_k / n) (w - w^k).

    State: `momentum/<tensor>`, v; 0 at first.

    Attributes:
        server_momentum: beta, 0 for FedAvg.
    """

    name: ClassVar[str] = "fedavgm"
    citation: ClassVar[str] = "Hsu et al. 2019, section 4.3"

    server_momentum: float = 0.7

    def __post_init__(self) -> None:
        """As the base, and the momentum below 1."""
        super().__post_init__()
        self.require("server_momentum", 0.0, 0.999)

    def step(self, model: Weights, aggregate: Weights, state: State) -> Step:
        """Add what is left of the earlier steps to this one."""
        velocity, weights = ungroup("momentum", state), dict(aggregate)
        beta = np.float32(self.server_momentum)
        for name, now in model.items():
            if is_trained(name, now):
                before = velocity.get(name, np.zeros_like(now))
                velocity[name] = (beta * before + (now - aggregate[name])).astype(now.dtype)
                weights[name] = now - velocity[name]
        return Step(weights, named("momentum", velocity))
