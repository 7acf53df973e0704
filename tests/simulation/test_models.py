"""Each built-in model learns in federated rounds, through the real engines, on the data set that is meant for it."""

from pathlib import Path

import pytest

from coordinator.config import RunConfig
from coordinator.run_folder import RunFolder
from learning.datasets import Dataset, load_dataset
from learning.partition import partition
from schemas.records import RoundRecord
from simulation.runner import simulate
from transport.settings import settings_from

ROOMS = 3
ROUNDS = 3


@pytest.mark.parametrize(("model", "dataset_name"), [("cnn", "mnist"), ("mlp", "mnist-rgb32"), ("lstm", "sequences")])
def test_loss_falls_in_every_federated_round(mnist: Dataset, model: str, dataset_name: str, tmp_path: Path) -> None:
    train = (mnist if dataset_name == "mnist" else load_dataset(dataset_name)).train
    rooms = {f"room-{i}": train.take(part[:400]) for i, part in enumerate(partition(train.labels, ROOMS, "iid", 1), 1)}
    config = settings_from(
        RunConfig,
        {
            "runs_folder": tmp_path,
            "training.model": model,
            "training.local_batches": 10,
            "rounds.count": ROUNDS,
            "rounds.min_agents": ROOMS,
            "rounds.min_updates": ROOMS,
            "data.dataset": dataset_name,
        },
    )

    result = simulate(config, rooms)

    records = RunFolder.open(tmp_path, result.run_id).records(("round",))
    rounds = [record for record in records if isinstance(record, RoundRecord)]
    assert [len(record.accepted) for record in rounds] == [ROOMS] * ROUNDS
    train_losses = [record.train_loss or 0.0 for record in rounds]
    test_losses = [record.loss or 0.0 for record in rounds]
    assert train_losses == sorted(train_losses, reverse=True)
    assert test_losses == sorted(test_losses, reverse=True)
    assert 0 < test_losses[-1] < test_losses[0]
