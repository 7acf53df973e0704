"""Local SGD against numbers worked out by hand, and the promises a restarted agent rests on."""

import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from learning.datasets import Dataset, Examples, load_dataset
from learning.evaluation import evaluate
from learning.models import build_model
from learning.parameters import get_weights
from learning.sampling import batch_indices
from learning.training import LocalTask, PlainSgd, Trainer, TrainingStopped, never_stop, train
from schemas.weights import Array

TASK = LocalTask(local_batches=1, batch_size=4, learning_rate=0.5, first_batch=0, seed=1, agent_id="pi-1")


def zero_linear() -> dict[str, Array]:
    return {"weight": np.zeros((2, 2), np.float32), "bias": np.zeros(2, np.float32)}


def same_bytes(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    return all(one[key].tobytes() == other[key].tobytes() for key in one) and one.keys() == other.keys()


def test_one_step_from_zero_weights_is_the_one_worked_out_by_hand(four_points: Examples) -> None:
    result = train(nn.Linear(2, 2), zero_linear(), four_points, TASK)
    # All four are in the batch and every class gets probability 1/2, so the gradient of row 0 is the mean of
    # (1/2 - [label is 0]) x = (-(1,0) + (0,1) - (2,1) + (-1,1)) / 8 = (-4, 1) / 8; row 1 is its negative, and
    # the biases' gradients cancel. One step at rate 0.5 subtracts half of that.
    assert result.weights["weight"].tolist() == [[0.25, -0.0625], [-0.25, 0.0625]]
    assert result.weights["bias"].tolist() == [0.0, 0.0]
    assert result.loss == pytest.approx(np.log(2))
    assert (result.num_examples, result.num_batches) == (4, 1)


def softmax_gradient(
    weight: npt.NDArray[np.float64], x: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], float]:
    scores = np.exp(x @ weight.T)
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    loss = -np.log(probabilities[np.arange(len(x)), labels]).mean()
    probabilities[np.arange(len(x)), labels] -= 1
    return probabilities.T @ x / len(x), float(loss)


def test_several_steps_follow_the_stream_of_batches(four_points: Examples) -> None:
    task = replace(TASK, local_batches=5, batch_size=3, first_batch=2)
    weight, losses = np.zeros((2, 2)), []
    for batch in range(2, 7):
        indices = batch_indices(4, 3, batch, 1, "pi-1")
        gradient, loss = softmax_gradient(
            weight, four_points.features[indices].astype(float), four_points.labels[indices]
        )
        weight -= 0.5 * gradient
        losses.append(loss)
    result = train(nn.Linear(2, 2, bias=False), {"weight": np.zeros((2, 2), np.float32)}, four_points, task)
    np.testing.assert_allclose(result.weights["weight"], weight, rtol=1e-5)
    assert result.loss == pytest.approx(np.mean(losses), rel=1e-5)


def test_bytes_reach_the_model_standardised() -> None:
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, features: Tensor) -> Tensor:
            seen.append(features)
            return features * self.scale

    examples = Examples(np.array([[0, 255]], np.uint8), np.array([0]), 2, "bytes")
    train(Spy(), {"scale": np.ones(1, np.float32)}, examples, replace(TASK, batch_size=1))
    assert seen[0].dtype == torch.float32
    assert seen[0].tolist()[0] == pytest.approx([-0.1307 / 0.3081, (1 - 0.1307) / 0.3081], rel=1e-5)


def small_mnist(mnist: Dataset) -> Examples:
    return mnist.train.take(np.arange(500))


def test_same_task_gives_the_same_bytes_whatever_was_trained_before(mnist: Dataset) -> None:
    task = LocalTask(4, 16, 0.1, first_batch=30, seed=5, agent_id="pi-2")
    start = get_weights(build_model("cnn", 1))
    trainer = Trainer(build_model("cnn", 1), small_mnist(mnist))
    first = trainer.train(start, task)
    trainer.train(start, replace(task, first_batch=0, agent_id="pi-3"))
    again = trainer.train(start, task)
    elsewhere = train(build_model("cnn", 2), start, small_mnist(mnist), task)
    assert same_bytes(first.weights, again.weights)
    assert same_bytes(first.weights, elsewhere.weights)
    assert first.loss == again.loss == elsewhere.loss


def test_training_that_goes_on_after_a_restart_equals_training_without_one(mnist: Dataset) -> None:
    examples, start = small_mnist(mnist), get_weights(build_model("cnn", 1))
    # 500 examples in batches of 16: batch 31 spans two epochs.
    whole = train(build_model("cnn", 1), start, examples, LocalTask(6, 16, 0.1, 28, 5, "pi-2"))
    half = train(build_model("cnn", 1), start, examples, LocalTask(3, 16, 0.1, 28, 5, "pi-2"))
    rest = train(build_model("cnn", 1), half.weights, examples, LocalTask(3, 16, 0.1, 31, 5, "pi-2"))
    assert same_bytes(whole.weights, rest.weights)
    assert whole.loss == pytest.approx((half.loss + rest.loss) / 2)


def test_given_weights_are_left_as_they_were(four_points: Examples) -> None:
    start = zero_linear()
    train(nn.Linear(2, 2), start, four_points, TASK)
    assert same_bytes(start, zero_linear())


def test_training_stops_before_the_batch_at_which_it_is_told_to(four_points: Examples) -> None:
    answers = iter([False, False, True])
    trainer = Trainer(nn.Linear(2, 2), four_points)
    with pytest.raises(TrainingStopped, match="stopped after 2 of 10 batches"):
        trainer.train(zero_linear(), replace(TASK, local_batches=10), lambda: next(answers))
    fresh = train(nn.Linear(2, 2), zero_linear(), four_points, TASK)
    assert same_bytes(trainer.train(zero_linear(), TASK).weights, fresh.weights)


class Recorder:
    """Doubles the gradient of the bias and halves the rate at each step."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def rate(self, step: int) -> float:
        return 0.5**step

    def correct(self, gradients: Mapping[str, Tensor], parameters: Mapping[str, Tensor], step: int) -> None:
        assert parameters.keys() == {"bias"}
        self.steps.append(step)
        gradients["bias"].mul_(2)


def test_local_rule_decides_rate_and_direction_and_frozen_parameters_stay() -> None:
    # Zero features: only the bias learns. One example of class 0, so its gradient is p - (1, 0).
    examples = Examples(np.zeros((1, 2), np.float32), np.array([0]), 2, "one")
    module = nn.Linear(2, 2)
    module.weight.requires_grad_(False)
    rule = Recorder()
    task = replace(TASK, local_batches=2, batch_size=1, first_batch=6)
    result = Trainer(module, examples).train(zero_linear(), task, never_stop, rule)
    bias = 1.0  # 0 - 1 * 2 * (1/2 - 1)
    probability = np.exp(bias) / (np.exp(bias) + np.exp(-bias))
    expected = bias - 0.5 * 2 * (probability - 1)
    assert rule.steps == [0, 1]
    assert result.weights["bias"].tolist() == pytest.approx([expected, -expected])
    assert not result.weights["weight"].any()


def test_default_rule_is_plain_sgd_at_the_tasks_rate(four_points: Examples) -> None:
    trainer = Trainer(nn.Linear(2, 2), four_points)
    task = replace(TASK, local_batches=3, batch_size=2)
    default = trainer.train(zero_linear(), task)
    assert same_bytes(default.weights, trainer.train(zero_linear(), task, rule=PlainSgd(0.5)).weights)
    assert not same_bytes(default.weights, trainer.train(zero_linear(), task, rule=PlainSgd(0.4)).weights)


def test_dropout_draws_from_the_task_and_leaves_torchs_global_generator_alone(four_points: Examples) -> None:
    trainer = Trainer(nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2)), four_points)
    start = {f"1.{key}": array for key, array in zero_linear().items()}
    task = replace(TASK, local_batches=8)
    before = torch.get_rng_state()
    first = trainer.train(start, task)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert same_bytes(trainer.train(start, task).weights, first.weights)
    assert not same_bytes(trainer.train(start, replace(task, seed=2)).weights, first.weights)


def test_buffers_of_the_model_are_part_of_the_result(four_points: Examples) -> None:
    module = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))
    result = train(module, get_weights(module), four_points, replace(TASK, local_batches=3))
    assert result.weights["0.num_batches_tracked"] == 3
    assert result.weights["0.running_mean"].any()


def test_diverged_training_reports_a_loss_that_is_not_finite(four_points: Examples) -> None:
    start = zero_linear() | {"weight": np.full((2, 2), np.nan, np.float32)}
    assert np.isnan(train(nn.Linear(2, 2), start, four_points, TASK).loss)


LEARNING = [("cnn", "mnist", 0.1, 0.8), ("mlp", "mnist-rgb32", 0.05, 0.6), ("lstm", "sequences", 0.2, 0.8)]


@pytest.mark.parametrize(("model", "data", "learning_rate", "accuracy"), LEARNING)
def test_loss_falls_and_accuracy_rises_on_the_models_own_data_set(
    mnist: Dataset, model: str, data: str, learning_rate: float, accuracy: float
) -> None:
    dataset = mnist if data == "mnist" else load_dataset(data)
    module = build_model(model, 1)
    trainer, weights, losses = Trainer(module, dataset.train), get_weights(module), []
    for first_batch in (0, 40, 80):
        result = trainer.train(weights, LocalTask(40, 16, learning_rate, first_batch, 1, "pi-1"))
        weights = result.weights
        losses.append(result.loss)
    assert losses[0] > losses[1] > losses[2]
    assert evaluate(module, weights, dataset.test.take(np.arange(1000))).accuracy > accuracy


def test_task_is_plain_data() -> None:
    assert LocalTask(**json.loads(json.dumps(TASK.__dict__))) == TASK
