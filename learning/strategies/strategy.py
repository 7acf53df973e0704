"""What a strategy is: a coordinator's half, an agent's half and its numbers; the base class is FedAvg in all of them.

A strategy is one frozen dataclass: its fields are its options, numbers that travel in the training plan. It keeps no
state itself. The coordinator's state is named arrays that `step` takes and returns, saved with every checkpoint; an
agent's is what `LocalRound.carry` returns, kept until the round is known to have closed with its update.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from learning.strategies.rates import Rates
from schemas.errors import ConfigError
from schemas.weights import Array, Weights

if TYPE_CHECKING:
    from torch import Tensor

    from learning.whitening import Damping

State = Mapping[str, Array]
FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Step:
    """A new global model and the strategy state that goes with it."""

    weights: Weights
    state: State


@dataclass(frozen=True, slots=True)
class RoundStart:
    """What an agent knows when it begins to train a round.

    Attributes:
        model: the round's global model.
        carry: what this agent carried out of round `carried_round`, the last that closed with its update; empty when
            there was none, or when the agent has lost it.
        local_batches, learning_rate: of the plan.
        damping: of the last layer's gradient; None when the strategy or the model has none.
    """

    round_number: int
    model: Weights
    carry: State
    carried_round: int
    local_batches: int
    learning_rate: float
    damping: "Damping | None" = None


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """The base of all strategies, and FedAvg as it is. Subclasses override what they change.

    The options below are common to all strategies, and all off by default. Flags are 0 or 1.

    Attributes:
        clip: the largest norm of one batch's gradient, over all parameters; 0 for no limit. Pascanu, Mikolov, Bengio
            2013, "On the difficulty of training recurrent neural networks", Algorithm 1.
        rate_end: the learning rate towards which it falls within a round, as a share of that at the round's start:
            1 - (1 - rate_end) b / E at batch b of E. Defazio, Cutkosky, Mehta, Mishchenko 2023, "Optimal Linear Decay
            Learning Rate Schedules and Further Refinements", arXiv:2310.07831, has 1 - t / T.
        rate_decay: the learning rate of each round as a share of that of the round before. Li, Huang, Yang, Wang, Zhang
            2020, "On the Convergence of FedAvg on Non-IID Data", ICLR, show why it must fall.
        zero_last: flag: the last layer starts at zero, so that no class is preferred at first. Zhang, Dauphin, Ma 2019,
            "Fixup Initialization", ICLR, rule 1.
        structured_start: flag: the other layers start orthogonal and the first convolution from a cosine transform's
            atoms (see `learning.initialisation`). Saxe, McClelland, Ganguli 2014.
        whitening: how many directions of the last layer's gradient are damped (see `learning.whitening`); 0 for none.
        absent_penalty: what is taken off the scores of classes that the agent has no example of while it trains, so
            that it unlearns them more slowly; after the adjusted logits of Menon et al. 2021, "Long-tail learning via
            logit adjustment".
    """

    name: ClassVar[str]
    citation: ClassVar[str]
    rate: ClassVar[float] = 0.05
    """The learning rate when none is given."""

    clip: float = 0.0
    rate_end: float = 1.0
    rate_decay: float = 1.0
    zero_last: float = 0.0
    structured_start: float = 0.0
    whitening: float = 0.0
    absent_penalty: float = 0.0

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be meant; subclasses add their own checks after calling this.

        Raises:
            ConfigError: an option is out of its range.
        """
        for field in dataclasses.fields(self):
            if not math.isfinite(getattr(self, field.name)):
                raise ConfigError(f"option {field.name!r} of strategy {self.name!r} must be a finite number")
        self.require("clip", 0.0)
        self.require("rate_end", 0.0, 1.0)
        self.require("rate_decay", 1e-6, 1.0)
        self.require("whitening", 0.0, 256.0)
        self.require("absent_penalty", 0.0)
        for flag in ("zero_last", "structured_start"):
            if getattr(self, flag) not in (0.0, 1.0):
                raise ConfigError(f"option {flag!r} of strategy {self.name!r} must be 0 or 1")

    def require(self, option: str, least: float, most: float = math.inf) -> None:
        """Hold an option against its range, both ends included.

        Raises:
            ConfigError: it is outside.
        """
        value = getattr(self, option)
        if not least <= value <= most:
            limits = f"from {least:g} to {most:g}" if most < math.inf else f"{least:g} or more"
            raise ConfigError(f"option {option!r} of strategy {self.name!r} must be {limits}, not {value:g}")

    def rates(self, learning_rate: float, local_batches: int) -> Rates:
        """The learning rate of every batch of every round."""
        return Rates(learning_rate, local_batches, self.rate_end, self.rate_decay)

    def step(self, model: Weights, aggregate: Weights, state: State) -> Step:
        """The coordinator's half: move the global model, given the weighted mean of the round's updates.

        Called once a round with the state that it returned in the round before, empty in the first. The same
        arguments give the same bytes.
        """
        del model
        return Step(aggregate, state)

    def local_round(self, start: RoundStart) -> "LocalRound":
        """The agent's half: how one round is trained."""
        return LocalRound(self, start)


class LocalRound:
    """One round's training on one agent: a `learning.training.LocalRule`, then what to send and what to carry.

    This one is FedAvg's, with the options that all strategies have. Subclasses override `adjust`, and `upload` and
    `carry` when they need to.
    """

    def __init__(self, strategy: Strategy, start: RoundStart) -> None:
        self.start = start
        self.rates = strategy.rates(start.learning_rate, start.local_batches)
        self._clip = strategy.clip

    def rate(self, step: int) -> float:
        """The step size of one batch, counted from 0 within the round."""
        return self.rates.rate(self.start.round_number, step)

    def correct(self, gradients: "Mapping[str, Tensor]", parameters: "Mapping[str, Tensor]", step: int) -> None:
        """Damp and clip the batch's gradient as the common options say, then leave it to `adjust`."""
        if self.start.damping is not None:
            self.start.damping.damp(gradients)
        if self._clip:
            clip_norm(gradients, self._clip)
        self.adjust(gradients, parameters, step)

    def adjust(self, gradients: "Mapping[str, Tensor]", parameters: "Mapping[str, Tensor]", step: int) -> None:
        """Change the gradients in place; the parameters then move by -rate times them."""

    def upload(self, weights: dict[str, Array]) -> dict[str, Array]:
        """What is sent, from the weights after the last batch."""
        return weights

    def carry(self) -> dict[str, Array]:
        """What the next round needs; it gets this back only if the round closes with this agent's update."""
        return {}


def clip_norm(gradients: "Mapping[str, Tensor]", most: float) -> None:
    """Shrink all gradients alike, in place, so that their common Euclidean norm is at most `most`."""
    norm = math.sqrt(math.fsum(float(gradient.square().sum()) for gradient in gradients.values()))
    if norm > most:
        for gradient in gradients.values():
            gradient.mul_(most / norm)


def is_trained(name: str, array: Array) -> bool:
    """False for what is no parameter: integers, and the running statistics of torch's normalisation layers.

    Those are replaced by their mean: a step with momentum could make a variance negative.
    """
    return array.dtype.kind == "f" and not name.rpartition(".")[2].startswith("running_")


def named(group: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays of one group for a state or a carry; `ungroup` gives them back."""
    return {f"{group}/{name}": array for name, array in arrays.items()}


def ungroup(group: str, state: State) -> dict[str, Array]:
    """The arrays of one group by their own names; empty when there are none."""
    prefix = f"{group}/"
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
