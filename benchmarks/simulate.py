"""How many client updates a second the simulation does on all cores, beside plain training loops, one per core.

The plain loops know nothing of rounds: each core trains the same CNN on its own, batch after batch, for ever. What
the simulation adds is everything else: engines, messages, encoding, checks, the mean, records and checkpoints.

There are two yardsticks. The textbook's loop with the textbook's CNN, as in `train`, is what a person without this
project would run. The stricter one is the same loop with our own faster CNN: it shows what the rest costs.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.bars import grouped_bars
from benchmarks.result import Column, Result, Row, Say
from coordinator.config import RunConfig
from coordinator.events import NoteRefusal
from coordinator.report.plots import Theme
from learning.datasets import Examples
from learning.threads import num_cores, use_threads
from schemas.records import DeviceRecord, RoundRecord, RunEvent
from simulation.runner import PI_BATCH_S, World
from simulation.runner import simulate as run_simulation
from transport.settings import settings_from

HEIGHT_IN = 2.8
BATCH_SIZE = 16
LOCAL_BATCHES = 10
EXAMPLES_PER_AGENT = 64
"""Whole batches: a plain loop starts an epoch anew with a smaller last batch, an agent goes on into the next epoch."""

RATE = 0.01
"""Of both: a batch of the CNN takes 2 to 3 % longer with 0.05, as the numbers that it computes with are others."""

WARM_UP_ROUNDS = 1
STAGGER = 0.2
"""Agents differ in speed by up to this share, as devices do: their updates do not all come at the same moment."""

YARDSTICKS = ("plain", "own_model")
"""The textbook's loop, and the same loop with our own model."""

TURNS = 2
"""How often each yardstick is measured before the simulation, and again after it."""

COLUMNS = (
    Column("agents", "virtual agents"),
    Column("rounds", "rounds"),
    Column("updates_per_s", "updates/s", 1),
    Column("plain_updates_per_s", "plain loops/s", 1),
    Column("ratio", "of plain", 3),
    Column("own_model_updates_per_s", "with our model/s", 1),
    Column("own_model_ratio", "of those", 3),
    Column("start_s", "start-up s", 1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to measure: numbers of virtual agents, and updates of each row."""

    agents: tuple[int, ...] = (100, 1000)
    updates: int = 2000
    quick: bool = False


class Stamps:
    """Takes the time whenever a round is recorded."""

    def __init__(self) -> None:
        self.at_s: list[float] = []

    def on_record(self, record: RoundRecord | DeviceRecord | RunEvent) -> None:
        """Take the time after a round's record."""
        if isinstance(record, RoundRecord):
            self.at_s.append(time.perf_counter())

    def on_refusal(self, refusal: NoteRefusal) -> None:
        """Of no interest."""

    def on_connection(self, connected: bool, reason: str) -> None:
        """Of no interest."""


def run(settings: Settings, folder: Path, say: Say) -> Result:
    """One row per number of agents."""
    cores = num_cores()
    updates = 60 if settings.quick else settings.updates
    turn_s = 0.5 if settings.quick else 5.0
    rows = []
    for agents in settings.agents:
        rounds = max(1, updates // agents)
        say(f"{cores} plain loops, one per core, with the textbook's model and with ours")
        before = loops_updates_per_s(cores, turn_s)
        say(f"simulation: {rounds + WARM_UP_ROUNDS} rounds of {agents} agents in {cores} processes")
        row = measure(agents, rounds, cores, folder)
        say(f"{cores} plain loops once more, as the machine may have become busier")
        rows.append(row | beside(row["updates_per_s"], before, loops_updates_per_s(cores, turn_s)))
    return Result(
        settings={"local_batches": LOCAL_BATCHES, "batch_size": BATCH_SIZE, "cores": cores, "model": "cnn"},
        rows=rows,
        columns=COLUMNS,
        summary={f"{key}_min": min(row[key] for row in rows) for key in ("ratio", "own_model_ratio")},
        notes=(
            "plain: the textbook's loop and CNN; with our model: the same loop with our faster CNN",
            "without start-up and the first round; the plain loops were measured before and after, in turns",
        ),
    )


def beside(updates_per_s: float, before: Mapping[str, float], after: Mapping[str, float]) -> Row:
    """What both yardsticks did before and after a simulation, and the simulation's share of it."""
    plain, own_model = ((before[name] + after[name]) / 2 for name in YARDSTICKS)
    return {
        "plain_updates_per_s": plain,
        "ratio": updates_per_s / plain,
        "own_model_updates_per_s": own_model,
        "own_model_ratio": updates_per_s / own_model,
        "loops_before": dict(before),
        "loops_after": dict(after),
    }


def measure(agents: int, rounds: int, processes: int, folder: Path) -> Row:
    """A simulated run; its updates a second from the end of the first round to the end of the last."""
    run_id = f"simulate-{agents}"
    options: dict[str, Any] = {
        "run_id": run_id,
        "runs_folder": folder / "runs",
        "training.local_batches": LOCAL_BATCHES,
        "training.batch_size": BATCH_SIZE,
        "training.learning_rate": RATE,
        "rounds.count": rounds + WARM_UP_ROUNDS,
        "rounds.min_agents": agents,
        "rounds.min_updates": agents,
        "data.dataset": "none",
    }
    rooms = {f"room-{number:04d}": room(number) for number in range(agents)}
    batch_s = {name: PI_BATCH_S * (1 + STAGGER * i / agents) for i, name in enumerate(rooms)}
    stamps = Stamps()
    begin_s = time.perf_counter()
    run_simulation(settings_from(RunConfig, options), rooms, World(processes=processes, batch_s=batch_s), stamps)
    spent_s = stamps.at_s[-1] - stamps.at_s[WARM_UP_ROUNDS - 1]
    return {
        "agents": agents,
        "rounds": rounds,
        "updates_per_s": agents * rounds / spent_s,
        "start_s": stamps.at_s[WARM_UP_ROUNDS - 1] - begin_s,
    }


def room(number: int) -> Examples:
    """An agent's data: random digits' worth of bytes."""
    rng = np.random.default_rng(number)
    features = rng.integers(0, 256, (EXAMPLES_PER_AGENT, 1, 28, 28), np.uint8)
    return Examples(features, rng.integers(0, 10, EXAMPLES_PER_AGENT), 10, "noise")


def loops_updates_per_s(cores: int, turn_s: float) -> dict[str, float]:
    """Updates (E batches each) a second of independent plain loops, together, for each yardstick."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(cores)
    queue: Any = context.Queue()
    loops = [context.Process(target=_loop, args=(barrier, queue, turn_s)) for _ in range(cores)]
    for loop in loops:
        loop.start()
    speeds = [queue.get() for _ in loops]
    for loop in loops:
        loop.join()
    return {name: sum(batches_per_s[name] for batches_per_s in speeds) / LOCAL_BATCHES for name in YARDSTICKS}


def _loop(barrier: Any, queue: Any, turn_s: float) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    use_threads(1)
    queue.put(in_turns(barrier.wait, turn_s))


def in_turns(wait: Callable[[], object], turn_s: float) -> dict[str, float]:
    """Batches a second of one core for each yardstick.

    Args:
        wait: until the other cores are here, too: all train the same model at a time.
    """
    import torch  # noqa: PLC0415 - seconds to load, and only here

    from benchmarks.plain_training import PlainLoop, plain_model  # noqa: PLC0415
    from learning.models import build_model  # noqa: PLC0415
    from learning.tensors import as_inputs  # noqa: PLC0415

    examples = room(0)
    inputs, labels = as_inputs(torch.from_numpy(examples.features)), torch.from_numpy(examples.labels)
    models = {"plain": plain_model("cnn"), "own_model": build_model("cnn", seed=0)}
    loops = {name: PlainLoop(model, inputs, labels, BATCH_SIZE, RATE) for name, model in models.items()}
    for loop in loops.values():
        loop.train(20)
    speeds: dict[str, list[float]] = {name: [] for name in YARDSTICKS}
    for name in YARDSTICKS * TURNS:
        wait()
        speeds[name].append(_batches_per_s(loops[name].train, turn_s))
    return {name: fmean(measured) for name, measured in speeds.items()}


def _batches_per_s(train: Callable[[int], object], seconds: float) -> float:
    begin_s, batches = time.perf_counter(), 0
    while not batches or time.perf_counter() < begin_s + seconds:
        train(LOCAL_BATCHES)
        batches += LOCAL_BATCHES
    return batches / (time.perf_counter() - begin_s)


def draw(figure: Figure, theme: Theme, result: Result) -> None:
    """Updates a second, plain and simulated; above each yardstick the simulation's share of it."""
    axes: Any = figure.subplots()  # its containers are those of bars, which no type says
    rows = result.rows
    plain = ("plain loops", "plain_updates_per_s", theme.idle)
    own_model = ("with our model", "own_model_updates_per_s", theme.communication)
    ours = ("simulation", "updates_per_s", theme.compute)
    grouped_bars(axes, rows, [f"{row['agents']} agents" for row in rows], (plain, own_model, ours))
    for bars, key in zip(axes.containers, ("ratio", "own_model_ratio"), strict=False):
        axes.bar_label(bars, [f"{row[key]:.0%}" for row in rows])
    title = "Client updates a second, E=10, CNN, one loop per core;\nabove the loops: the simulation's share of theirs"
    axes.set(title=title, ylabel="updates a second")
