"""One agent's round: the strategy's halves reach training, and nothing is kept that the carry does not hold."""

import numpy as np
import pytest

from learning.datasets import Dataset, Examples
from learning.initialisation import initial_model
from learning.learner import Learner, LocalOutcome, damping_for
from learning.parameters import get_weights
from learning.strategies.fedavg import FedAvg
from learning.training import LocalTask, Trainer
from schemas.errors import ConfigError, DataError
from schemas.messages import TrainingPlan
from schemas.weights import digest

FULL = {"momentum": 0.5, "clip": 2.0, "rate_end": 0.0, "whitening": 8.0, "zero_last": 1.0, "structured_start": 1.0}


def plan(strategy: str = "fedavg", **options: float) -> TrainingPlan:
    return TrainingPlan(
        model="cnn",
        local_batches=3,
        batch_size=8,
        learning_rate=0.1,
        seed=3,
        strategy=strategy,
        options=dict(options),
    )


@pytest.fixture
def room(mnist: Dataset) -> Examples:
    return mnist.train.take(np.arange(200))


def two_rounds(room: Examples, *, restart: bool) -> LocalOutcome:
    learner, told = Learner("pi-1", room), plan("scaffold", **FULL)
    first = learner.train(told, 1, get_weights(initial_model("cnn", 3, FedAvg(structured_start=1.0))), {}, 0)
    if restart:
        learner = Learner("pi-1", room)
    return learner.train(told, 2, first.result.weights, first.carry, 1)


def test_fedavg_is_the_trainers_own_rule(room: Examples) -> None:
    start = get_weights(initial_model("cnn", 3, FedAvg()))
    task = LocalTask(3, 8, 0.1, first_batch=3, seed=3, agent_id="pi-1")

    learnt = Learner("pi-1", room).train(plan(), 2, start, {}, 0)

    trained = Trainer(initial_model("cnn", 3, FedAvg()), room).train(start, task)
    assert digest(learnt.result.weights) == digest(trained.weights)
    assert learnt.carry == {}


def test_restarted_agent_trains_the_same_bytes_from_its_carry(room: Examples) -> None:
    undisturbed, restarted = two_rounds(room, restart=False), two_rounds(room, restart=True)

    assert digest(undisturbed.result.weights) == digest(restarted.result.weights)
    assert digest(undisturbed.carry) == digest(restarted.carry)


def test_carry_is_of_plain_contiguous_arrays(room: Examples) -> None:
    carry = two_rounds(room, restart=False).carry

    assert {name.split("/")[0] for name in carry} == {"base", "variate", "direction"}
    assert all(array.flags["C_CONTIGUOUS"] and array.dtype == np.float32 for array in carry.values())


def test_unknown_strategy_and_option_are_refused(room: Examples) -> None:
    start = get_weights(initial_model("cnn", 3, FedAvg()))

    with pytest.raises(ConfigError, match="no strategy"):
        Learner("pi-1", room).train(plan("magic"), 1, start, {}, 0)
    with pytest.raises(ConfigError, match="no option"):
        Learner("pi-1", room).train(plan("fedavg", wand=1.0), 1, start, {}, 0)


def test_model_that_does_not_fit_the_room_is_refused(room: Examples) -> None:
    told = plan().model_copy(update={"model": "mlp"})

    with pytest.raises(DataError, match="Mlp"):
        Learner("pi-1", room).train(told, 1, {}, {}, 0)


def test_damping_is_measured_once_for_a_run_and_only_when_wanted() -> None:
    strategy = FedAvg(whitening=4.0)

    assert damping_for("cnn", 3, FedAvg()) is None
    assert damping_for("cnn", 3, strategy) is damping_for("cnn", 3, strategy)


def test_penalty_keeps_classes_that_are_absent_from_being_unlearnt(mnist: Dataset) -> None:
    zeros = mnist.train.take(np.flatnonzero(mnist.train.labels == 0)[:50])
    start = get_weights(initial_model("cnn", 3, FedAvg(zero_last=1.0)))
    plain = Learner("pi-1", zeros).train(plan(), 1, start, {}, 0).result.weights["fc.bias"]
    kept = Learner("pi-1", zeros).train(plan(absent_penalty=2.0), 1, start, {}, 0).result.weights["fc.bias"]

    assert (plain[1:] < kept[1:]).all()
    assert (kept[1:] < 0).all()


def test_penalty_changes_nothing_where_no_class_is_absent(room: Examples) -> None:
    start = get_weights(initial_model("cnn", 3, FedAvg()))
    weights = [Learner("pi-1", room).train(plan(absent_penalty=p), 1, start, {}, 0).result.weights for p in (0.0, 2.0)]

    assert digest(weights[0]) == digest(weights[1])


def test_penalty_fits_a_model_with_more_classes_than_the_data_set() -> None:
    few = Examples(np.zeros((4, 1, 28, 28), np.uint8), np.zeros(4, np.int64), num_classes=2, name="few")
    start = get_weights(initial_model("cnn", 3, FedAvg()))

    outcome = Learner("pi-1", few).train(plan(absent_penalty=1.0), 1, start, {}, 0)

    assert np.isfinite(outcome.result.loss)
