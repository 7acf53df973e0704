"""Forward and backward CPU time against batch size, from torch's profiler, for each model; also meant for a Pi.

On a Raspberry Pi the temperature is stated with every row, and whether the firmware held the CPU back meanwhile:
figures of a throttled Pi are figures of its cooling.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.result import Column, Result, Row, Say
from coordinator.report.plots import Theme
from edge_agent.sensors import cpu_temperature_c, throttled
from learning.models import ModelSpec, build_model, model_spec
from learning.threads import use_threads

HEIGHT_IN = 6.2
WARM_UP_RUNS = 3
BATCH_SIZES = {
    "cnn": (1, 2, 4, 8, 16, 24, 32, 40),
    "lstm": (1, 2, 4, 8, 16, 24, 32, 40),
    "mlp": (1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
}
FORWARD, BACKWARD = "bench.forward", "bench.backward"
COLUMNS = (
    Column("model", "model"),
    Column("batch_size", "batch"),
    Column("forward_ms_mean", "forward ms", 3),
    Column("forward_ms_std", "+-", 3),
    Column("backward_ms_mean", "backward ms", 3),
    Column("backward_ms_std", "+-", 3),
    Column("images_per_s", "examples/s"),
    Column("cpu_temperature_c", "degrees C", 1),
    Column("throttled", "throttled"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Which models, and how many runs of each batch size."""

    models: tuple[str, ...] = ("cnn", "lstm", "mlp")
    runs: int = 50
    threads: int = 1
    quick: bool = False


def run(settings: Settings, folder: Path, say: Say) -> Result:
    """One row per model and batch size."""
    del folder
    # The profiler would announce each of its starts and stops on stderr.
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")
    before = torch.get_num_threads()
    threads = use_threads(settings.threads)
    rows = []
    try:
        for model in settings.models:
            sizes = BATCH_SIZES[model][::4] if settings.quick else BATCH_SIZES[model]
            for batch_size in sizes:
                say(f"{model}, batches of {batch_size}")
                rows.append(measure(model, batch_size, 4 if settings.quick else settings.runs))
    finally:
        torch.set_num_threads(before)
    return Result(
        settings={"runs": settings.runs, "threads": threads},
        rows=rows,
        columns=COLUMNS,
        summary={"throttled": any(row["throttled"] for row in rows)},
        references={
            "study": "its Figures 1 and 2: the same models and batch sizes on a Raspberry Pi 4, one run of each"
        },
        notes=("CPU time by torch's profiler, one thread, mean and standard deviation over the runs",),
    )


def measure(model: str, batch_size: int, runs: int) -> Row:
    """Mean and spread of forward and backward passes."""
    module = build_model(model, seed=0)
    spec = model_spec(module) or ModelSpec((1,), 2)
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.standard_normal((batch_size, *spec.input_shape), np.float32))
    labels = torch.from_numpy(rng.integers(0, spec.num_classes, batch_size))
    for _ in range(WARM_UP_RUNS):
        _pass(module, inputs, labels)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(runs):
            _pass(module, inputs, labels)
    found: dict[str, list[float]] = {FORWARD: [], BACKWARD: []}
    for event in profiler.events() or ():
        if event.name in found:
            found[event.name].append(event.cpu_time_total / 1000)
    forward_ms, backward_ms = found[FORWARD], found[BACKWARD]
    return {
        "model": model,
        "batch_size": batch_size,
        "runs": runs,
        "forward_ms_mean": fmean(forward_ms),
        "forward_ms_std": stdev(forward_ms),
        "backward_ms_mean": fmean(backward_ms),
        "backward_ms_std": stdev(backward_ms),
        "images_per_s": batch_size * 1000 / (fmean(forward_ms) + fmean(backward_ms)),
        "cpu_temperature_c": cpu_temperature_c(),
        "throttled": throttled(),
    }


def _pass(module: nn.Module, inputs: Tensor, labels: Tensor) -> None:
    module.zero_grad()
    with record_function(FORWARD):
        loss = functional.cross_entropy(module(inputs), labels)
    with record_function(BACKWARD):
        loss.backward()  # type: ignore[no-untyped-call]


def draw(figure: Figure, theme: Theme, result: Result) -> None:
    """One panel per model: time of a batch, with its spread."""
    models = list(dict.fromkeys(row["model"] for row in result.rows))
    panels = figure.subplots(len(models), 1, squeeze=False)[:, 0]
    for axes, model in zip(panels, models, strict=True):
        rows = [row for row in result.rows if row["model"] == model]
        sizes = [row["batch_size"] for row in rows]
        for part, colour in (("forward", theme.compute), ("backward", theme.communication)):
            means, spread = [r[f"{part}_ms_mean"] for r in rows], [r[f"{part}_ms_std"] for r in rows]
            axes.errorbar(sizes, means, yerr=spread, fmt="o-", markersize=3, capsize=2, color=colour, label=part)
        axes.set(title=f"{model}: CPU time of a batch", ylabel="milliseconds")
        axes.set_ylim(bottom=0)
    panels[-1].set_xlabel("batch size")
    panels[0].legend()
