"""Loss and accuracy against numbers worked out by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from learning.datasets import Examples
from learning.evaluation import evaluate
from learning.parameters import get_weights
from learning.training import LocalTask, Trainer
from schemas.errors import DataError

IDENTITY = {"weight": np.eye(2, dtype=np.float32), "bias": np.zeros(2, np.float32)}


def test_loss_and_accuracy_are_those_worked_out_by_hand(four_points: Examples) -> None:
    # Scores are the points themselves: (1,0) and (2,1) are right by 1, (0,1) by 1, (-1,1) by 2.
    found = evaluate(nn.Linear(2, 2), IDENTITY, four_points)
    assert found.loss == pytest.approx((3 * np.log1p(np.exp(-1)) + np.log1p(np.exp(-2))) / 4)
    assert found.accuracy == 1.0
    assert found.num_examples == 4


def test_accuracy_counts_the_wrong_ones(four_points: Examples) -> None:
    flipped = Examples(four_points.features, np.array([1, 1, 0, 1]), 2, "one wrong")
    assert evaluate(nn.Linear(2, 2), IDENTITY, flipped).accuracy == 0.75


@pytest.mark.parametrize("batch_size", [1, 3, 4, 1000])
def test_batch_size_does_not_change_the_result(four_points: Examples, batch_size: int) -> None:
    whole = evaluate(nn.Linear(2, 2), IDENTITY, four_points)
    found = evaluate(nn.Linear(2, 2), IDENTITY, four_points, batch_size)
    assert found.accuracy == whole.accuracy
    assert found.loss == pytest.approx(whole.loss, rel=1e-6)


def test_dropout_is_off_and_the_weights_are_not_changed(four_points: Examples) -> None:
    module = nn.Sequential(nn.Dropout(0.9), nn.Linear(2, 2))
    weights = {f"1.{key}": array for key, array in IDENTITY.items()}
    assert evaluate(module, weights, four_points).accuracy == 1.0
    assert all((get_weights(module)[key] == array).all() for key, array in weights.items())


def test_module_can_be_trained_again_after_it_was_evaluated(four_points: Examples) -> None:
    module = nn.Linear(2, 2)
    trainer = Trainer(module, four_points)
    evaluate(module, IDENTITY, four_points)
    result = trainer.train(IDENTITY, LocalTask(1, 4, 0.1, 0, 1, "pi-1"))
    assert (result.weights["weight"] != IDENTITY["weight"]).any()
    assert torch.is_grad_enabled()


def test_weights_of_another_model_are_refused(four_points: Examples) -> None:
    with pytest.raises(DataError, match="do not fit the model"):
        evaluate(nn.Linear(2, 3), IDENTITY, four_points)
