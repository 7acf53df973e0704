"""SCAFFOLD without extra bytes: each agent's drift is corrected by control variates that both sides can work out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from learning.strategies.agentmomentum import AgentMomentum, AlongTheDirection
from learning.strategies.strategy import LocalRound, RoundStart, named, ungroup
from schemas.weights import Array

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Scaffold(AgentMomentum):
    """Every batch's gradient is corrected by c - c_k: what all agents' gradients were, less what this one's was.

    Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning",
    ICML 2020, Algorithm 1 with option II: y <- y - eta (g_k(y) - c_k + c), then c_k <- c_k - c + (x - y_k) / (K eta).
    With rates that fall, K eta becomes R, their sum over the round, and option II's c_k the mean of the round's
    gradients g_k weighted by their rates. The server's rate eta_g is 1, and means are weighted by examples. Optional
    agent momentum (see `AgentMomentum`) is added to the same gradient.

    *No extra bytes.* The paper sends c down and every change of c_k up. Here an agent sends y_k with its own
    correction taken out again, z_k = y_k + R (c - c_k). When all take part the corrections' mean is zero, so the
    aggregate is the paper's. It is then x_{t+1} = x_t - R_t (mean of the g_k + beta d_{t-1}), so that every agent
    gets the next c = mean of the c_k out of two broadcasts: c = d_t - beta d_{t-1} with d_t = (x_t - x_{t+1}) / R_t.

    *When someone is missing.* Others missing: c is the mean over those who took part, their latest gradients, and
    not the paper's mean that keeps the absent agents' old ones; nobody needs to know who was missing. An agent that
    missed rounds takes for c the mean over them: with D the mean direction since its round r, m rounds ago,
    c = (1 - beta) D + beta (D - d_{r-1}) / m, which for m = 1 is the exact value above. Its own c_k is
    then old as well. None of that can add up: corrections never reach the aggregate, which always is
    the step along the gradients just taken by those who took part, and c is drawn afresh from it each round. (Left in,
    as in a plain SCAFFOLD whose c is recovered so, one wrong c would be a constant error in all later ones.)
    An agent without a carry trains one round uncorrected.

    Carry: `base/<tensor>`, x_t; `variate/<tensor>`, c_k; with momentum also `direction/<tensor>`, d_{t-1}.

    Attributes:
        momentum: beta, 0 for the paper's algorithm.
    """

    name: ClassVar[str] = "scaffold"
    citation: ClassVar[str] = "Karimireddy et al. 2020, Algorithm 1, option II"
    rate: ClassVar[float] = 0.02

    momentum: float = 0.0

    def local_round(self, start: RoundStart) -> LocalRound:
        """Local training with corrected gradients."""
        return _Corrected(self, start)


class _Corrected(AlongTheDirection):
    def __init__(self, strategy: Scaffold, start: RoundStart) -> None:
        super().__init__(strategy, start)
        self._correction = self._find_correction()
        self._gradients: dict[str, Tensor] = {}

    def _find_correction(self) -> dict[str, Array]:
        """c - c_k; empty when the agent does not know its variate or the last direction."""
        own, mean = ungroup("variate", self.start.carry), self.direction
        if not mean or own.keys() != mean.keys():
            return {}
        before = ungroup("direction", self.start.carry)
        beta = np.float32(self.momentum)
        share = np.float32(self.momentum / (self.start.round_number - self.start.carried_round))
        # A direction that was not known then is taken to have been like those since.
        return {
            name: (1 - beta) * now + share * (now - before.get(name, now)) - own[name] for name, now in mean.items()
        }

    def shift(self) -> dict[str, Array]:
        """The correction, and momentum where there is some."""
        momentum = super().shift()
        return {name: momentum[name] + self._correction.get(name, np.float32(0)) for name in momentum}

    def adjust(self, gradients: "Mapping[str, Tensor]", parameters: "Mapping[str, Tensor]", step: int) -> None:
        """Note the batch's gradient for c_k, then correct it."""
        for name, gradient in gradients.items():
            if name not in self._gradients:
                self._gradients[name] = gradient.new_zeros(gradient.shape)
            self._gradients[name].add_(gradient, alpha=self.rate(step))
        super().adjust(gradients, parameters, step)

    def upload(self, weights: dict[str, Array]) -> dict[str, Array]:
        """The weights without their correction: z_k = y_k + R (c - c_k), where gradients were corrected."""
        total = np.float32(self.rates.total(self.start.round_number, self.start.round_number))
        corrected = {name: array for name, array in self._correction.items() if name in self._gradients}
        return weights | {name: weights[name] + total * array for name, array in corrected.items()}

    def carry(self) -> dict[str, Array]:
        """x_t, c_k and, where it is needed, d_{t-1}; before round 1 there was no direction, which is known."""
        total = self.rates.total(self.start.round_number, self.start.round_number)
        variate = {name: np.zeros_like(array) for name, array in self.trained.items()}
        variate |= {name: np.array(g.numpy() / np.float32(total), order="C") for name, g in self._gradients.items()}
        carried = super().carry() | named("variate", variate)
        direction = self.direction
        if self.start.round_number == 1:
            direction = {name: np.zeros_like(array) for name, array in self.trained.items()}
        return carried | named("direction", direction) if self.momentum else carried
