"""Malicious agents for simulations: their training is real, and what they send is not what came of it."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from edge_agent.events import StartTraining, TrainingFinished
from edge_agent.trainer import RoundTrainer
from schemas.messages import TrainingPlan
from schemas.weights import Array, Weights

Attack = Callable[[Weights, Weights], dict[str, Array]]
"""(the round's model, the trained weights) -> what is sent."""

SIGN_FLIP = 5.0
SCALE = 20.0


def along_the_step(factor: float) -> Attack:
    """Sends the model and `factor` times the step away from it; 1 is honest."""

    def attack(model: Weights, trained: Weights) -> dict[str, Array]:
        return {
            name: (model[name] + factor * (array - model[name])).astype(array.dtype)
            if array.dtype.kind == "f"
            else array
            for name, array in trained.items()
        }

    return attack


ATTACKS: Mapping[str, Attack] = {"sign-flip": along_the_step(-SIGN_FLIP), "scaled": along_the_step(SCALE)}
"""Back along the own step, five times as far, so that one of five turns the mean around; and twenty times too far."""


class MaliciousTrainer:
    """Trains like `honest`, then lets an attack say what is sent."""

    def __init__(self, honest: RoundTrainer, attack: Attack) -> None:
        self._honest = honest
        self._attack = attack

    def first_model(self, plan: TrainingPlan) -> Weights:
        """The honest one."""
        return self._honest.first_model(plan)

    def train(self, task: StartTraining, should_stop: Callable[[], bool]) -> TrainingFinished:
        """One round; raises what honest training raises."""
        finished = self._honest.train(task, should_stop)
        return replace(finished, weights=self._attack(task.weights, finished.weights))
