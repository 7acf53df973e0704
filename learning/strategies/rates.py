"""The learning rate of every batch of a run, from the plan's numbers alone: every party can work out any round's."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rates:
    """A rate that falls linearly within each round, and by a factor from round to round.

    Attributes:
        learning_rate: of the first batch of round 1.
        local_batches: E, the batches of a round.
        end: what the rate would be at batch E, one past the last, as a share of that at batch 0; 1 for no fall.
        decay: the factor from a round to the next; 1 for no fall.
    """

    learning_rate: float
    local_batches: int
    end: float = 1.0
    decay: float = 1.0

    def rate(self, round_number: int, step: int) -> float:
        """The rate of one batch; rounds count from 1, batches within the round from 0."""
        within = 1.0 - (1.0 - self.end) * step / self.local_batches
        return self.learning_rate * float(self.decay ** (round_number - 1)) * within

    def total(self, first_round: int, last_round: int) -> float:
        """The sum of the rates of all batches of these rounds, both included."""
        rounds = range(first_round, last_round + 1)
        return math.fsum(self.rate(number, step) for number in rounds for step in range(self.local_batches))
