"""A learning problem small enough to be worked out by hand, for runs in which only the protocol is at stake.

Each agent's update is a function of the model, the agent, the round and what the agent carries; the carry grows with
every accepted update. `expected_models` works out, from nothing but the accepted sets, what every global model must
be: an implementation of its own, in exact rational arithmetic.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from edge_agent.events import StartTraining, TrainingFinished
from schemas.codecs import PLAIN, CodecPair, CodecSpec, Compressed, compress, rounding_generator
from schemas.messages import TrainingPlan

Model = dict[str, npt.NDArray[np.float32]]

FIRST: Model = {"w": np.array([0.5, -0.25, 2.0], np.float32)}
"""The model of round 0."""

PLAN_SEED = 0
"""Of the plans that this model is used with."""

GRID = 2**32
"""The grid that updates are rounded to before they are summed; see `coordinator.aggregation`."""


def examples_of(agent_id: str) -> int:
    """n_k: how many examples an agent has."""
    return 1 + _draw(agent_id) % 1000


def local_update(
    model: Mapping[str, npt.NDArray[np.float32]],
    carry: Mapping[str, npt.NDArray[np.float32]],
    agent_id: str,
    round_number: int,
) -> tuple[Model, Model]:
    """What an agent makes of a model: the update, and what it carries on."""
    before = carry.get("m", np.zeros(3, np.float32))
    pull = np.array([_draw(agent_id, round_number, i) % 2001 - 1000 for i in range(3)], np.float32) / np.float32(4096)
    moved = np.float32(0.5) * before + pull
    return {"w": model["w"] * np.float32(0.75) + moved}, {"m": moved}


class ArithmeticTrainer:
    """Trains by `local_update`.

    Args:
        agent_id: whose.
        trained: counts the trainings, by round.
    """

    def __init__(self, agent_id: str) -> None:
        self.agent_id = agent_id

    def first_model(self, plan: TrainingPlan) -> Model:
        """The model of round 0."""
        del plan
        return FIRST

    def train(self, task: StartTraining, should_stop: Callable[[], bool]) -> TrainingFinished:
        """One update."""
        del should_stop
        announcement = task.announcement
        weights, carry = local_update(task.weights, task.carry, self.agent_id, announcement.round_number)
        return TrainingFinished(
            announcement.run_id, announcement.round_number, weights, examples_of(self.agent_id), 1, 0.5, carry
        )


def expected_models(accepted: Sequence[Collection[str]], codecs: CodecPair = PLAIN) -> list[Model]:
    """The global model after each round, from the accepted sets of rounds 1, 2, ...

    With codecs, what agents hold and what is decoded of their updates is worked out with the codec library alone.
    """
    model, held, carries, models = FIRST, FIRST, dict[str, Model](), []
    residuals: dict[str, Model] = {}
    for number, agents in enumerate(accepted, start=1):
        total = sum(examples_of(agent) for agent in agents)
        sums = [Fraction(0)] * 3
        for agent in agents:
            update, carries[agent] = local_update(held, carries.get(agent, {}), agent, number)
            if codecs.up.needs:
                sent = _sent(update["w"] - held["w"], residuals.get(agent, {}), codecs.up, number, agent)
                update, residuals[agent] = {"w": held["w"] + sent.decoded["w"]}, sent.residual
            for i in range(3):
                sums[i] += examples_of(agent) * Fraction(round(Fraction(float(update["w"][i])) * GRID), GRID)
        mean = np.array([_nearest(s / total) for s in sums], np.float32)
        model = {"w": mean if held is model else model["w"] + (mean - held["w"])}
        if codecs.down.needs:
            sent = _sent(model["w"] - held["w"], {}, codecs.down, number + 1, "coordinator")
            held = {"w": held["w"] + sent.decoded["w"]}
        else:
            held = model
        models.append(model)
    return models


def _sent(change: npt.NDArray[np.float32], residual: Model, spec: CodecSpec, number: int, party: str) -> Compressed:
    return compress({"w": change}, residual, spec, rounding_generator(PLAN_SEED, number, party))


def _nearest(value: Fraction) -> np.float32:
    """The float32 nearest to a rational number (float64 first: its error is far below the grid's)."""
    return np.float32(float(value))


def _draw(*parts: object) -> int:
    return int.from_bytes(hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=4).digest(), "little")
