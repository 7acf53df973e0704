"""A malicious agent against the real engine: it ruins the mean, and does not ruin what withstands it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from coordinator.demo import DemoSettings, demo_config
from coordinator.run_folder import RunFolder
from coordinator.summary import rounds_of
from edge_agent.trainer import RoomTrainer, RoundTrainer
from learning.datasets import Examples, load_dataset
from learning.partition import partition
from simulation.attack import ATTACKS, MaliciousTrainer, along_the_step
from simulation.runner import World, simulate_with


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def digits() -> Examples:
    return load_dataset("digits").train


def accuracies(folder: Path, digits: Examples, aggregation: str, attack: str) -> list[float]:
    settings = DemoSettings(
        runs_folder=folder, rounds=4, local_batches=6, partition="iid", learning_rate=0.1, aggregation=aggregation
    )
    parts = partition(digits.labels, 5, "iid", 1)
    trainers: dict[str, RoundTrainer] = {
        f"room-{i}": RoomTrainer(f"room-{i}", digits.take(part)) for i, part in enumerate(parts, 1)
    }
    trainers["room-3"] = MaliciousTrainer(trainers["room-3"], ATTACKS[attack])
    run_id = f"{aggregation}-{attack}"
    simulate_with(demo_config(settings, "digits", run_id, {}), trainers, World())
    return [record.accuracy or 0.0 for record in rounds_of(RunFolder.open(folder, run_id).records(("round",)))]


@pytest.mark.parametrize("attack", ATTACKS)
def test_one_attacker_of_five_ruins_the_mean_and_not_the_median(attack: str, digits: Examples, tmp_path: Path) -> None:
    ruined = accuracies(tmp_path, digits, "mean", attack)
    withstood = accuracies(tmp_path, digits, "median", attack)

    # A run whose honest agents cannot train from the ruined model any more ends earlier.
    assert max(ruined[-2:]) < 0.5 < min(withstood[-2:])
    assert len(withstood) == 4


def test_attack_goes_along_the_step_and_leaves_counters_alone() -> None:
    model = {"w": np.array([1, 2], np.float32), "n": np.array(5)}
    trained = {"w": np.array([2, 0], np.float32), "n": np.array(6)}

    sent = along_the_step(-5.0)(model, trained)

    assert sent["w"].tolist() == [-4, 12]
    assert sent["w"].dtype == np.float32
    assert int(sent["n"]) == 6
