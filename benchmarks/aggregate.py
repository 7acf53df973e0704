"""How fast updates become part of the model: bytes in, checked, added exactly, beside a plain NumPy pipeline.

Both read the same blobs with the same reader and refuse the same updates. The plain one sums in float32, in which the
result depends on the order of arrival; ours does not, which is what its additional time buys.
"""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from matplotlib.figure import Figure

from benchmarks.bars import grouped_bars, words_above
from benchmarks.result import Column, Result, Row, Say
from benchmarks.updates import NUM_EXAMPLES, RUN_ID, initial_weights, make_updates
from coordinator.aggregation import ExactMean
from coordinator.report.plots import Theme
from coordinator.screening import Expected, screen
from schemas import wire
from schemas.messages import BlobHeader
from schemas.weights import Array, Weights, check_structure, decode, digest

HEIGHT_IN = 2.8
MAX_NORM = 1000.0
COLUMNS = (
    Column("model", "model"),
    Column("parameters", "parameters"),
    Column("updates_per_s", "updates/s"),
    Column("plain_updates_per_s", "plain NumPy/s"),
    Column("cpu_ratio", "CPU, times plain", 2),
    Column("megabytes_per_s", "MB/s"),
    Column("order_independent", "same bytes in any order"),
    Column("plain_order_independent", "plain the same"),
    Column("max_error", "largest error", 12),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to measure: the models, how many different updates, and for how long each side."""

    models: tuple[str, ...] = ("cnn", "mlp")
    updates: int = 10
    seconds: float = 3.0
    quick: bool = False


@dataclass(frozen=True, slots=True)
class _Material:
    weights: Weights
    base_sha256: str
    blobs: Mapping[str, bytes]


def run(settings: Settings, folder: Path, say: Say) -> Result:
    """One row per model."""
    del folder
    seconds = 0.3 if settings.quick else settings.seconds
    rows = []
    for model in settings.models:
        say(f"{model}: {settings.updates} updates, about {2 * seconds:g} s")
        rows.append(measure(model, settings.updates, seconds))
    return Result(
        settings={"models": list(settings.models), "updates": settings.updates, "seconds": seconds},
        rows=rows,
        columns=COLUMNS,
        summary={"cpu_ratio_max": max(row["cpu_ratio"] for row in rows)},
        notes=(
            "from safetensors bytes to the sum: parsed, sender, base, shapes, finiteness and norm checked, added;",
            "CPU of both sides measured in turns within one process; errors against float64",
        ),
    )


def measure(model: str, updates: int, seconds: float) -> Row:
    """Both sides in turns, so that whatever else the machine does meets both."""
    weights = initial_weights(model)
    material = _Material(weights, digest(weights), make_updates(weights, updates))
    ours_s, plain_s = _in_turns(lambda: fold_exactly(material), lambda: fold_plainly(material), seconds)
    blob_bytes = len(next(iter(material.blobs.values())))
    exact = fold_exactly(material)
    return {
        "model": model,
        "parameters": sum(array.size for array in weights.values()),
        "payload_bytes": blob_bytes,
        "updates_per_s": updates / ours_s,
        "plain_updates_per_s": updates / plain_s,
        "cpu_ms_per_update": ours_s * 1000 / updates,
        "plain_cpu_ms_per_update": plain_s * 1000 / updates,
        "cpu_ratio": ours_s / plain_s,
        "megabytes_per_s": updates * blob_bytes / ours_s / 1e6,
        "order_independent": _same_in_any_order(material, fold_exactly),
        "plain_order_independent": _same_in_any_order(material, fold_plainly),
        "max_error": _largest_error(material, exact),
    }


def fold_exactly(material: _Material) -> dict[str, Array]:
    """What the coordinator does with a round's updates."""
    mean = ExactMean(material.weights)
    for agent_id, blob in material.blobs.items():
        expected = Expected(
            run_id=RUN_ID,
            round_number=1,
            agent_id=agent_id,
            model=material.weights,
            model_sha256=material.base_sha256,
            max_update_norm=MAX_NORM,
            max_bytes=2**30,
        )
        update = screen(blob, expected)
        mean.add(update.weights, update.num_examples, update.inspection)
    return mean.result()


def fold_plainly(material: _Material) -> dict[str, Array]:
    """The same parse and checks, and a weighted sum in float32, as one would write it."""
    sums = {name: np.zeros_like(array) for name, array in material.weights.items()}
    total = 0
    for agent_id, blob in material.blobs.items():
        head, update = decode(blob)
        header = wire.decode(head, BlobHeader).message
        if (header.sender, header.run_id, header.base_sha256) != (agent_id, RUN_ID, material.base_sha256):
            raise ValueError("not this round's")
        check_structure(update, material.weights)
        squares = 0.0
        for name, array in update.items():
            if not np.isfinite(array).all():
                raise ValueError("not finite")
            squares += float(np.linalg.norm(array - material.weights[name])) ** 2
        if squares > MAX_NORM**2:
            raise ValueError("too far away")
        for name, array in update.items():
            sums[name] += np.float32(header.num_examples) * array
        total += header.num_examples
    return {name: array / np.float32(total) for name, array in sums.items()}


def _in_turns(first: Callable[[], object], second: Callable[[], object], seconds: float) -> tuple[float, float]:
    """Median CPU seconds of one call of each."""
    times: tuple[list[float], list[float]] = ([], [])
    first()
    second()
    end_s = time.perf_counter() + 2 * seconds
    while not times[1] or time.perf_counter() < end_s:
        for work, spent in zip((first, second), times, strict=True):
            begin_s = time.process_time()
            work()
            spent.append(time.process_time() - begin_s)
    return median(times[0]), median(times[1])


def _same_in_any_order(material: _Material, fold: Callable[[_Material], dict[str, Array]]) -> bool:
    orders = [list(material.blobs) for _ in range(4)]
    for seed, order in enumerate(orders):
        random.Random(seed).shuffle(order)  # noqa: S311 - nothing secret
    folded = [
        fold(_Material(material.weights, material.base_sha256, {k: material.blobs[k] for k in o})) for o in orders
    ]
    return len({digest(weights) for weights in folded}) == 1


def _largest_error(material: _Material, mean: Weights) -> float:
    """The largest distance of the mean from that in float64, beyond float32's own rounding."""
    counts = range(NUM_EXAMPLES, NUM_EXAMPLES + len(material.blobs))
    decoded = [decode(blob)[1] for blob in material.blobs.values()]
    worst = 0.0
    for name, array in mean.items():
        true = sum(n * update[name].astype(np.float64) for n, update in zip(counts, decoded, strict=True)) / sum(counts)
        worst = max(worst, float(np.abs(array - true).max()))
    return worst


def draw(figure: Figure, theme: Theme, result: Result) -> None:
    """CPU per update, ours and plain."""
    axes, rows = figure.subplots(), result.rows
    labels = [f"{row['model']}\n{row['parameters']:,} parameters" for row in rows]
    plain = ("plain NumPy, fp32", "plain_cpu_ms_per_update", theme.idle)
    exact = ("exact, in any order", "cpu_ms_per_update", theme.compute)
    grouped_bars(axes, rows, labels, (plain, exact))
    words_above(axes, rows, "cpu_ms_per_update", [f"{row['cpu_ratio']:.2f}x" for row in rows])
    axes.set(title="From bytes to the sum: CPU per update", ylabel="milliseconds")
