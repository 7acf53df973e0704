"""The yardsticks compute what our own code computes; how fast either is stays out of tests."""

from collections.abc import Iterator

import pytest
import torch

from benchmarks import latency, train
from benchmarks.plain_training import PlainLoop, plain_model
from learning.models import build_model
from learning.tensors import ExampleTensors


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Several threads wait for one another for seconds on a machine that is busy with other tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("model", ["cnn", "lstm", "mlp"])
def test_plain_model_gives_the_same_scores_as_ours(model: str) -> None:
    inputs, _ = ExampleTensors.of(train.draw_examples(model)).batch(torch.arange(4))
    with torch.inference_mode():
        difference = (plain_model(model)(inputs) - build_model(model, seed=0)(inputs)).abs().max()

    assert difference < 1e-5


def test_plain_loop_goes_on_after_the_last_batch_of_an_epoch() -> None:
    inputs, labels = ExampleTensors.of(train.draw_examples("cnn")).batch(torch.arange(20))
    loop = PlainLoop(plain_model("cnn"), inputs, labels, 16, 0.01)

    assert len(loop.train(5)) == 5


def test_training_row_holds_both_speeds_their_ratio_and_equal_losses() -> None:
    row = train.measure("cnn", 1, seconds=0.0)

    assert row["ratio"] == pytest.approx(row["batches_per_s"] / row["plain_batches_per_s"])
    assert row["loss_difference"] < train.LOSS_TOLERANCE


def test_latency_row_holds_mean_and_spread_of_both_passes() -> None:
    row = latency.measure("mlp", batch_size=2, runs=3)

    assert row["runs"] == 3
    assert min(row["forward_ms_mean"], row["backward_ms_mean"]) > 0
    assert min(row["forward_ms_std"], row["backward_ms_std"]) >= 0
