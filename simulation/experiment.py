"""Learning experiments in plain calls: the agents' own learning and the coordinator's own mean and step, no messages.

For choosing numbers and for tables of what a strategy gives. As long as the same agents take part, the models have
the same bytes as in a run over a broker on the same kind of machine with as many threads.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

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
from schemas.codecs import parse_codec
from schemas.errors import PayloadError
from schemas.messages import TrainingPlan
from schemas.weights import Weights
from simulation.compression import Downlink, Sent, Uplink, difference, total

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
        codec: of updates and models, or UP/DOWN; fp32 when not given.
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


@dataclass(frozen=True, slots=True)
class Played:
    """One round.

    Attributes:
        weights: the global model after it.
        bytes_down: of the tensors of the broadcast that opened it, 0 in round 1, whose model is derived from the seed.
        bytes_up: of the tensors of one update, mean over the agents.
    """

    weights: Weights
    bytes_down: int
    bytes_up: float


def run(experiment: Experiment, train: Examples, judge: Examples) -> list[float]:
    """The accuracy on `judge` after each round, until the last or `stop_at`, or until training has diverged.

    Raises:
        FederationError: the recipe, the model and the data do not fit together.
    """
    module = initial_model(experiment.model, experiment.seed, experiment.recipe.make())
    accuracies: list[float] = []
    for played in play(experiment, train):
        accuracies.append(evaluate(module, played.weights, judge).accuracy)
        if accuracies[-1] >= experiment.stop_at:
            break
    return accuracies


def play(experiment: Experiment, train: Examples) -> Iterator[Played]:
    """Round after round; no more once an update is one that the coordinator would refuse."""
    plan, count, seed = experiment.plan, experiment.num_agents, experiment.seed
    parts = partition(train.labels, count, experiment.scheme, seed, experiment.alpha)
    learners = [Learner(f"room-{i}", train.take(part)) for i, part in enumerate(parts, 1)]
    strategy = make_strategy(plan, experiment.aggregation)
    weights: Weights = get_weights(initial_model(plan.model, plan.seed, experiment.recipe.make()))
    up, _, down = (experiment.codec or "fp32").partition("/")
    downlink = Downlink(parse_codec(down or up), seed, weights)
    uplinks = [Uplink(parse_codec(up), seed, f"room-{i}") for i in range(1, count + 1)]
    state: State = {}
    carries: list[State] = [{}] * count
    carried = [0] * count
    for number in range(1, experiment.rounds + 1):
        broadcast = downlink.send(weights, number) if number > 1 else Sent(weights, 0)
        base = broadcast.decoded
        mean = strategy.aggregator(base)
        sizes = []
        for agent in experiment.present(number, count):
            outcome = learners[agent].train(plan, number, base, carries[agent], carried[agent])
            try:
                sent = uplinks[agent].send(outcome.result.weights, base, number)
                mean.add(sent.decoded, outcome.result.num_examples)
            except PayloadError:
                return
            sizes.append(sent.tensor_bytes)
            carries[agent], carried[agent] = outcome.carry, number
        step = strategy.step(weights, moved(weights, base, mean.result()), state)
        weights, state = step.weights, step.state
        yield Played(weights, broadcast.tensor_bytes, sum(sizes) / len(sizes))


def moved(weights: Weights, base: Weights, mean: Weights) -> Weights:
    """The mean of updates that started from `base`, as if they had started from the global model `weights`."""
    return mean if base is weights else total(weights, difference(mean, base))


def rounds_to(accuracies: list[float], target: float) -> int | None:
    """The first round at or above `target`; None when there is none."""
    return next((number for number, accuracy in enumerate(accuracies, 1) if accuracy >= target), None)
