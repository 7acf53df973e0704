"""Adam on the agents, with momentum on the coordinator: for data that is spread evenly."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from learning.strategies.fedavgm import FedAvgM
from learning.strategies.strategy import LocalRound, RoundStart

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LocalAdam(FedAvgM):
    """Each agent trains with Adam, whose moments begin anew every round; the coordinator is FedAvgM's.

    Kingma, Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, Algorithm 1, as the local optimiser; as the
    combination of a client's and a server's optimiser: Reddi et al. 2021, Algorithm 1.

    Attributes:
        local_beta1, local_beta2: of Adam's two moments; its epsilon is 1e-8.
        server_momentum: beta of `FedAvgM`, here 0 by default.
    """

    name: ClassVar[str] = "localadam"
    citation: ClassVar[str] = "Kingma and Ba 2015, Algorithm 1, within Reddi et al. 2021, Algorithm 1"
    rate: ClassVar[float] = 0.002

    server_momentum: float = 0.0
    local_beta1: float = 0.9
    local_beta2: float = 0.99

    def __post_init__(self) -> None:
        """As FedAvgM, and both betas below 1."""
        super().__post_init__()
        self.require("local_beta1", 0.0, 0.9999)
        self.require("local_beta2", 0.0, 0.9999)

    def local_round(self, start: RoundStart) -> LocalRound:
        """Local training with Adam's steps."""
        return _Adam(self, start)


class _Adam(LocalRound):
    def __init__(self, strategy: LocalAdam, start: RoundStart) -> None:
        super().__init__(strategy, start)
        self._betas = strategy.local_beta1, strategy.local_beta2
        self._first: dict[str, Tensor] = {}
        self._second: dict[str, Tensor] = {}

    def adjust(self, gradients: "Mapping[str, Tensor]", parameters: "Mapping[str, Tensor]", step: int) -> None:
        """The gradient becomes m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + 1e-8)."""
        beta1, beta2 = self._betas
        correction1, correction2 = 1 - beta1 ** (step + 1), 1 - beta2 ** (step + 1)
        for name, gradient in gradients.items():
            if name not in self._first:
                self._first[name] = gradient.new_zeros(gradient.shape)
                self._second[name] = gradient.new_zeros(gradient.shape)
            first = self._first[name].mul_(beta1).add_(gradient, alpha=1 - beta1)
            second = self._second[name].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            scale = (second.sqrt() / math.sqrt(correction2)).add_(1e-8).mul_(correction1)
            gradient.copy_(first / scale)
