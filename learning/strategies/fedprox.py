"""FedProx: agents are held near the global model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from learning.strategies.strategy import LocalRound, RoundStart, Strategy

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class FedProx(Strategy):
    """Each agent's loss gets a term that grows with the distance from the global model.

    Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, "Federated Optimization in Heterogeneous Networks", MLSys 2020,
    equation 2 (Algorithm 2): h_k(w; w^t) = F_k(w) + mu/2 |w - w^t|^2, whose gradient adds mu (w - w^t).

    Attributes:
        proximity: mu, 0 for FedAvg.
    """

    name: ClassVar[str] = "fedprox"
    citation: ClassVar[str] = "Li et al. 2020, equation 2"

    proximity: float = 0.01

    def __post_init__(self) -> None:
        """As the base, and mu not negative."""
        super().__post_init__()
        self.require("proximity", 0.0)

    def local_round(self, start: RoundStart) -> LocalRound:
        """Local training with the term."""
        return _NearTheModel(self, start)


class _NearTheModel(LocalRound):
    def __init__(self, strategy: FedProx, start: RoundStart) -> None:
        super().__init__(strategy, start)
        self._proximity = strategy.proximity
        self._model: dict[str, Tensor] = {}

    def adjust(self, gradients: "Mapping[str, Tensor]", parameters: "Mapping[str, Tensor]", step: int) -> None:
        """Pull back towards w^t, where the parameters are before the first batch."""
        if step == 0:
            self._model = {name: parameters[name].detach().clone() for name in gradients}
        for name, gradient in gradients.items():
            gradient.add_(parameters[name] - self._model[name], alpha=self._proximity)
