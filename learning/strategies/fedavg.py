"""Federated averaging, the reference: everything as in the base class."""

from dataclasses import dataclass
from typing import ClassVar

from learning.strategies.strategy import Strategy


@dataclass(frozen=True, kw_only=True)
class FedAvg(Strategy):
    """The new model is the mean of the agents' models, weighted by their examples.

    McMahan, Moore, Ramage, Hampson, Aguera y Arcas, "Communication-Efficient Learning of Deep Networks from
    Decentralized Data", AISTATS 2017, Algorithm 1: w_{t+1} = sum over k of (n_k / n) w^k_{t+1}, n being the sum over
    the agents that answered; local training is E batches of SGD.
    """

    name: ClassVar[str] = "fedavg"
    citation: ClassVar[str] = "McMahan et al. 2017, Algorithm 1"
