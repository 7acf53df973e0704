"""Every strategy and preset learns MNIST, with its own numbers and codec, in a few rounds of five agents."""

import numpy as np
import pytest
import torch

from learning.datasets import Dataset
from learning.evaluation import evaluate
from learning.models import build_model
from learning.strategies.presets import expand, names
from simulation.experiment import Experiment, models

ROUNDS = 6
LEAST = {
    ("agentmomentum", "iid"): 0.86,
    ("best", "iid"): 0.90,
    ("best-iid", "iid"): 0.91,
    ("fedadam", "iid"): 0.81,
    ("fedavg", "iid"): 0.83,
    ("fedavgm", "iid"): 0.86,
    ("fedprox", "iid"): 0.83,
    ("fedyogi", "iid"): 0.81,
    ("localadam", "iid"): 0.87,
    ("scaffold", "iid"): 0.83,
    ("best", "digit-pairs"): 0.86,
}
"""Four points or more below what seeds 1 and 2 gave."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def after_six_rounds(name: str, scheme: str, mnist: Dataset) -> float:
    experiment = Experiment(recipe=expand(name, 10), scheme=scheme, rounds=ROUNDS)
    *_, weights = models(experiment, mnist.train)
    return evaluate(build_model(experiment.model, 0), weights, mnist.test.take(np.arange(2000))).accuracy


def test_all_strategies_are_tried() -> None:
    assert {name for name, _ in LEAST} == set(names())


@pytest.mark.parametrize(("name", "scheme"), LEAST)
def test_strategy_learns_mnist(name: str, scheme: str, mnist: Dataset) -> None:
    assert after_six_rounds(name, scheme, mnist) >= LEAST[name, scheme]


def test_best_is_ahead_of_federated_averaging_where_each_device_has_two_digits(mnist: Dataset) -> None:
    assert after_six_rounds("best", "digit-pairs", mnist) > after_six_rounds("fedavg", "digit-pairs", mnist) + 0.08
