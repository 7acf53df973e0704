"""The agent's training loop beside a plain one: the same model, data, batch size and threads, in turns, in one run.

Before the clock starts both train the same batches, and their losses must agree.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.plain_training import PlainLoop, plain_model
from benchmarks.result import Column, Result, Row, Say
from coordinator.report.plots import Theme
from learning.datasets import Examples
from learning.models import ModelSpec, build_model, model_spec
from learning.parameters import get_weights
from learning.sampling import batch_indices
from learning.tensors import ExampleTensors
from learning.threads import num_cores, use_threads
from learning.training import LocalTask, Trainer
from schemas.errors import FederationError

HEIGHT_IN = 3.2
NUM_EXAMPLES = 2048
BATCH_SIZE = 16
RATE = 0.01
CHECKED_BATCHES = 20
LOSS_TOLERANCE = 1e-3
CALLS_PER_TURN = 5
"""Enough that most find the caches as they left them, not as the other loop did, which no device runs beside."""

COLUMNS = (
    Column("model", "model"),
    Column("threads", "threads"),
    Column("threads_in_effect", "ours has"),
    Column("batches_per_s", "batches/s", 1),
    Column("plain_batches_per_s", "plain loop/s", 1),
    Column("ratio", "times plain", 3),
    Column("loss_difference", "loss differs by", 7),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to measure: models, thread counts, and seconds for each side of each row."""

    models: tuple[str, ...] = ("cnn", "lstm", "mlp")
    threads: tuple[int, ...] = (1, 2, 3, 4)
    seconds: float = 5.0
    quick: bool = False


def run(settings: Settings, folder: Path, say: Say) -> Result:
    """One row per model and thread count."""
    del folder
    seconds = 0.3 if settings.quick else settings.seconds
    before = torch.get_num_threads()
    rows = []
    try:
        for model in settings.models:
            for threads in settings.threads:
                say(f"{model} with {threads} threads, about {2 * seconds:g} s")
                rows.append(measure(model, threads, seconds))
    finally:
        torch.set_num_threads(before)
    return Result(
        settings={"batch_size": BATCH_SIZE, "examples": NUM_EXAMPLES, "seconds": seconds},
        rows=rows,
        columns=COLUMNS,
        summary={"ratio_min": min(row["ratio"] for row in rows)},
        references={"one core, measured before, batches of 16 of the CNN a second": {"DataLoader": "211-244"}},
        notes=(
            "the plain loop is DataLoader(TensorDataset(float tensors), 16, shuffle=True), SGD, backward, step",
            f"ours never computes with more threads than there are cores, {num_cores()} here; the plain loop does",
        ),
    )


def measure(model: str, threads: int, seconds: float) -> Row:
    """Both loops in turns: ours with as many threads as an agent of this setting, the plain one with `threads`."""
    in_effect = use_threads(threads)
    examples = draw_examples(model)
    tensors = ExampleTensors.of(examples)
    inputs, labels = tensors.batch(torch.arange(NUM_EXAMPLES))
    weights = get_weights(build_model(model, seed=0))
    trainer = Trainer(build_model(model, seed=0), examples)
    difference = loss_difference(model, trainer, weights, inputs, labels)
    plain = PlainLoop(plain_model(model), inputs, labels, BATCH_SIZE, RATE)
    batches = 10

    def ours() -> None:
        # A round's work: weights in, E batches, weights out.
        trainer.train(weights, _task(batches))

    ours_s, plain_s = in_turns(
        Loop(in_effect, ours),
        Loop(threads, lambda: plain.train(batches)),
        seconds,
    )
    return {
        "model": model,
        "threads": threads,
        "threads_in_effect": in_effect,
        "batches_per_s": batches / ours_s,
        "plain_batches_per_s": batches / plain_s,
        "ratio": plain_s / ours_s,
        "loss_difference": difference,
    }


def draw_examples(model: str) -> Examples:
    """Random bytes of the model's shape: speed does not depend on what they show."""
    spec = model_spec(build_model(model, seed=0)) or ModelSpec((1,), 2)
    rng = np.random.default_rng(0)
    features = rng.integers(0, 256, (NUM_EXAMPLES, *spec.input_shape), np.uint8)
    return Examples(features, rng.integers(0, spec.num_classes, NUM_EXAMPLES), spec.num_classes, "noise")


def loss_difference(model: str, trainer: Trainer, weights: Any, inputs: Tensor, labels: Tensor) -> float:
    """How far the mean losses of both loops over the same batches are apart.

    Raises:
        FederationError: too far: they do not compute the same.
    """
    ours = trainer.train(weights, _task(CHECKED_BATCHES)).loss
    plain = PlainLoop(plain_model(model), inputs, labels, BATCH_SIZE, RATE)
    losses = []
    for number in range(CHECKED_BATCHES):
        indices = torch.from_numpy(batch_indices(NUM_EXAMPLES, BATCH_SIZE, number, 1, "bench"))
        losses.append(plain.step(inputs[indices], labels[indices]))
    difference = abs(ours - sum(losses) / len(losses))
    if difference > LOSS_TOLERANCE:
        raise FederationError(f"{model}: the mean losses of both loops differ by {difference:.2g} on the same batches")
    return difference


@dataclass(frozen=True, slots=True)
class Loop:
    """What is measured, and with how many threads."""

    threads: int
    work: Callable[[], object]


def in_turns(first: Loop, second: Loop, seconds: float) -> tuple[float, float]:
    """Median seconds of one call of each, measured alternately."""
    times: tuple[list[float], list[float]] = ([], [])
    end_s = time.perf_counter() + 2 * seconds
    while not times[1] or time.perf_counter() < end_s:
        for loop, spent in zip((first, second), times, strict=True):
            torch.set_num_threads(loop.threads)
            loop.work()  # not measured: threads are made anew when their number has changed
            for _ in range(CALLS_PER_TURN):
                begin_s = time.perf_counter()
                loop.work()
                spent.append(time.perf_counter() - begin_s)
    return median(times[0]), median(times[1])


def _task(batches: int) -> LocalTask:
    return LocalTask(batches, BATCH_SIZE, RATE, first_batch=0, seed=1, agent_id="bench")


def draw(figure: Figure, theme: Theme, result: Result) -> None:
    """How many times as fast as the plain loop."""
    axes = figure.subplots()
    models = list(dict.fromkeys(row["model"] for row in result.rows))
    colours = (theme.compute, theme.communication, theme.highlight)
    for model, colour in zip(models, colours, strict=False):
        rows = [row for row in result.rows if row["model"] == model]
        axes.plot([r["threads"] for r in rows], [r["ratio"] for r in rows], "o-", color=colour, label=model)
    axes.axhline(1.0, color=theme.muted, linewidth=1, linestyle="--")
    axes.set_xticks(sorted({row["threads"] for row in result.rows}))
    axes.set(title="The agent's loop beside a plain one", xlabel="threads", ylabel="times as fast")
    axes.margins(y=0.2)
    axes.legend()
