"""The yardsticks compute what our own code computes; how fast either is stays out of tests."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from benchmarks import latency, simulate, train
from benchmarks.plain_training import PlainCnn, PlainLoop, plain_model
from learning.models import build_model
from learning.tensors import ExampleTensors
from learning.training import Trainer


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


def test_more_threads_than_cores_are_left_to_the_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0})
    used: list[int] = []
    monkeypatch.setattr(Trainer, "train", _noting_threads(used, Trainer.train))
    plain: list[int] = []
    monkeypatch.setattr(PlainLoop, "train", _noting_threads(plain, PlainLoop.train))

    row = train.measure("mlp", 2, seconds=0.0)

    assert (row["threads"], row["threads_in_effect"]) == (2, 1)
    assert (set(used), set(plain)) == ({1}, {2})


def test_simulation_is_held_against_the_textbooks_model_and_ours_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[type] = []
    original = PlainLoop.train

    def noting(loop: PlainLoop, num_batches: int) -> list[float]:
        trained.append(type(loop._model))
        return original(loop, num_batches)

    monkeypatch.setattr(PlainLoop, "train", noting)
    waited: list[int] = []

    speeds = simulate.in_turns(lambda: waited.append(len(trained)), turn_s=0.0)

    warm_up, textbook, ours = 2, PlainCnn, type(build_model("cnn", seed=0))
    assert trained[warm_up:] == [textbook, ours] * simulate.TURNS
    assert waited == list(range(warm_up, len(trained)))
    assert speeds.keys() == set(simulate.YARDSTICKS)
    assert min(speeds.values()) > 0


def _noting_threads(noted: list[int], work: Callable[..., Any]) -> Callable[..., Any]:
    def noting(*arguments: Any) -> Any:
        noted.append(torch.get_num_threads())
        return work(*arguments)

    return noting


def test_latency_row_holds_mean_and_spread_of_both_passes() -> None:
    row = latency.measure("mlp", batch_size=2, runs=3)

    assert row["runs"] == 3
    assert min(row["forward_ms_mean"], row["backward_ms_mean"]) > 0
    assert min(row["forward_ms_std"], row["backward_ms_std"]) >= 0
