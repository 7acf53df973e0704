"""Learning experiments in plain calls: the agents' own learning and the coordinator's own mean and step, no messages.

For choosing numbers and for tables of what a strategy gives. As long as the same agents take part, the models have
the same bytes as in a run over a broker on the same kind of machine with as many threads.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from coordinator.broadcast import Broadcast
from coordinator.strategies import Aggregation, make_strategy
from learning.datasets import Examples
from learning.evaluation import evaluate
from learning.initialisation import initial_model
from learning.learner import Learner
from learning.parameters import get_weights
from learning.partition import partition
from learning.seeding import stable_seed
from learning.strategies.presets import Recipe
from learning.strategies.strategy import State
from schemas.codecs import CodecPair, CodecSpec, apply, compress, difference, parse_codecs, rounding_generator
from schemas.errors import PayloadError
from schemas.identifiers import COORDINATOR_ID
from schemas.messages import TrainingPlan
from schemas.weights import Weights, digest

MEAN = Aggregation()


def everybody(_round_number: int, num_agents: int) -> list[int]:
    """All agents take part in every round."""
    return list(range(num_agents))


def all_but_one(seed: int) -> Callable[[int, int], list[int]]:
    """In every round after the first another agent, drawn from (seed, round), is missing."""

    def present(round_number: int, num_agents: int) -> list[int]:
        missing = stable_seed("missing", seed, round_number) % num_agents if round_number > 1 else -1
        return [agent for agent in range(num_agents) if agent != missing]

    return present


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One run.

    Attributes:
        recipe: the strategy and its numbers.
        scheme, alpha: how the training data is divided, see `learning.partition`.
        present: (round number, number of agents) -> those that take part, by number from 0.
        stop_at: no more rounds after this accuracy.
        codec: of updates and models, or UP/DOWN; the recipe's own when not given.
        aggregation: what puts updates together.
    """

    recipe: Recipe
    scheme: str = "digit-pairs"
    alpha: float = 0.5
    local_batches: int = 10
    batch_size: int = 16
    num_agents: int = 5
    rounds: int = 25
    seed: int = 1
    model: str = "cnn"
    present: Callable[[int, int], list[int]] = everybody
    stop_at: float = 1.0
    codec: str | None = None
    aggregation: Aggregation = MEAN

    @property
    def codecs(self) -> CodecPair:
        """How updates and models travel."""
        return parse_codecs(self.codec or self.recipe.codec)

    @property
    def plan(self) -> TrainingPlan:
        """What the agents are told."""
        return TrainingPlan(
            model=self.model,
            local_batches=self.local_batches,
            batch_size=self.batch_size,
            learning_rate=self.recipe.learning_rate,
            seed=self.seed,
            strategy=self.recipe.strategy,
            options=dict(self.recipe.options),
        )


def run(experiment: Experiment, train: Examples, judge: Examples) -> list[float]:
    """The accuracy on `judge` after each round, until the last or `stop_at`, or until training has diverged.

    Raises:
        FederationError: the recipe, the model and the data do not fit together.
    """
    module = initial_model(experiment.model, experiment.seed, experiment.recipe.make())
    accuracies: list[float] = []
    for weights in models(experiment, train):
        accuracies.append(evaluate(module, weights, judge).accuracy)
        if accuracies[-1] >= experiment.stop_at:
            break
    return accuracies


def models(experiment: Experiment, train: Examples) -> Iterator[Weights]:
    """The global model after each round; no more once an update is one that the coordinator would refuse."""
    plan, count = experiment.plan, experiment.num_agents
    parts = partition(train.labels, count, experiment.scheme, experiment.seed, experiment.alpha)
    agents = [Agent(f"room-{i}", train.take(part)) for i, part in enumerate(parts, 1)]
    strategy, codecs = make_strategy(plan, experiment.aggregation), experiment.codecs
    weights: Weights = get_weights(initial_model(plan.model, plan.seed, experiment.recipe.make()))
    broadcast = Broadcast(weights, digest(weights))
    state: State = {}
    for number in range(1, experiment.rounds + 1):
        mean = strategy.aggregator(broadcast.model)
        for index in experiment.present(number, count):
            try:
                update, num_examples = agents[index].play(plan, number, broadcast.model, codecs.up)
                mean.add(update, num_examples)
            except PayloadError:
                return
        step = strategy.step(weights, broadcast.seen_from(weights, mean.result()), state)
        weights, state = step.weights, step.state
        generator = partial(rounding_generator, plan.seed, number + 1, COORDINATOR_ID)
        broadcast = broadcast.follow(weights, digest(weights), codecs.down, generator)
        yield weights


class Agent:
    """One agent in plain calls: its learning, and what it carries out of the rounds that it takes part in."""

    def __init__(self, agent_id: str, examples: Examples) -> None:
        self._agent_id = agent_id
        self._learner = Learner(agent_id, examples)
        self._carry: State = {}
        self._residual: State = {}
        self._last_round = 0

    def play(self, plan: TrainingPlan, number: int, model: Weights, codec: CodecSpec) -> tuple[Weights, int]:
        """What the coordinator makes of this agent's update, which is taken to count, and its number of examples.

        Raises:
            PayloadError: the update is not finite.
        """
        outcome = self._learner.train(plan, number, model, self._carry, self._last_round)
        self._carry, self._last_round = outcome.carry, number
        if codec.is_identity:
            return outcome.result.weights, outcome.result.num_examples
        generator = rounding_generator(plan.seed, number, self._agent_id)
        sent = compress(difference(outcome.result.weights, model), self._residual, codec, generator)
        self._residual = sent.residual
        return apply(model, sent.decoded), outcome.result.num_examples


def rounds_to(accuracies: list[float], target: float) -> int | None:
    """The first round at or above `target`; None when there is none."""
    return next((number for number, accuracy in enumerate(accuracies, 1) if accuracy >= target), None)
