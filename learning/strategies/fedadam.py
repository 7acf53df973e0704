"""FedAdam: the coordinator takes Adam's step in the direction of the mean update."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from learning.strategies.strategy import FloatArray, State, Step, Strategy, is_trained, named, ungroup
from schemas.weights import Weights


@dataclass(frozen=True, kw_only=True)
class FedAdam(Strategy):
    """The step in each weight is scaled by what its earlier updates were like.

    Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar, McMahan, "Adaptive Federated Optimization", ICLR 2021,
    Algorithm 2: D = mean of x_i - x, m <- b1 m + (1 - b1) D, v <- b2 v + (1 - b2) D^2,
    x <- x + eta m / (sqrt(v) + tau).
    As there, without Adam's correction of the first steps, m = 0 and v = tau^2 at first. The mean is weighted by
    examples.

    State: `momentum/<tensor>`, m, and `variance/<tensor>`, v.

    Attributes:
        server_rate: eta; beta1, beta2: b1, b2; tau: how far the scaling adapts, smaller being more.
    """

    name: ClassVar[str] = "fedadam"
    citation: ClassVar[str] = "Reddi et al. 2021, Algorithm 2"

    server_rate: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3

    def __post_init__(self) -> None:
        """As the base, both betas below 1 and tau above 0."""
        super().__post_init__()
        self.require("server_rate", 0.0)
        self.require("beta1", 0.0, 0.9999)
        self.require("beta2", 0.0, 0.9999)
        self.require("tau", 1e-9)

    def step(self, model: Weights, aggregate: Weights, state: State) -> Step:
        """Algorithm 2, lines 9 to 12."""
        momentum, variance, weights = ungroup("momentum", state), ungroup("variance", state), dict(aggregate)
        for name, now in model.items():
            if not is_trained(name, now):
                continue
            update = aggregate[name] - now
            m = self.beta1 * momentum.get(name, np.zeros_like(now)) + (1 - self.beta1) * update
            v = self.second_moment(variance.get(name, np.full_like(now, self.tau**2)), np.square(update))
            momentum[name], variance[name] = m.astype(now.dtype), v.astype(now.dtype)
            weights[name] = (now + self.server_rate * m / (np.sqrt(v) + self.tau)).astype(now.dtype)
        return Step(weights, named("momentum", momentum) | named("variance", variance))

    def second_moment(self, before: FloatArray, squared: FloatArray) -> FloatArray:
        """The running mean v of the squared updates."""
        after: FloatArray = self.beta2 * before + (1 - self.beta2) * squared
        return after
