"""FedYogi: FedAdam whose second moment moves by additions alone."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from learning.strategies.fedadam import FedAdam
from learning.strategies.strategy import FloatArray


@dataclass(frozen=True, kw_only=True)
class FedYogi(FedAdam):
    """The scaling forgets large updates no faster than it has learnt them.

    Reddi et al., "Adaptive Federated Optimization", ICLR 2021, Algorithm 2 with Yogi's second moment:
    v <- v - (1 - b2) D^2 sign(v - D^2). Everything else, state included, is as in FedAdam.
    """

    name: ClassVar[str] = "fedyogi"
    citation: ClassVar[str] = "Reddi et al. 2021, Algorithm 2"

    def second_moment(self, before: FloatArray, squared: FloatArray) -> FloatArray:
        """Yogi's v: towards the squared update, by at most its (1 - b2)th part."""
        after: FloatArray = before - (1 - self.beta2) * squared * np.sign(before - squared)
        return after
