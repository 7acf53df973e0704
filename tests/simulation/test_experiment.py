"""Experiments in plain calls against whole simulated runs: the same bytes, whatever the strategy carries."""

from pathlib import Path

import pytest
import torch

from coordinator.config import RunConfig
from coordinator.strategies import Aggregation
from learning.datasets import Examples, load_dataset
from learning.partition import partition
from learning.strategies.presets import expand
from learning.strategies.registry import STRATEGIES
from schemas.weights import digest
from simulation.experiment import Experiment, all_but_one, models, rounds_to, run
from simulation.runner import World, simulate
from transport.settings import settings_from


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def digits() -> Examples:
    return load_dataset("digits").train


@pytest.mark.parametrize(
    ("name", "rule", "codec"),
    [
        ("best", "mean", None),
        ("best", "norm-clipping", "ternary:1/int4"),
        ("best-iid", "median", None),
        ("fedadam", "trimmed-mean", "fp32"),
        ("scaffold", "mean", "fp16/int8,stochastic"),
    ],
)
def test_experiment_and_simulated_run_end_with_the_same_bytes(
    name: str, rule: str, codec: str | None, digits: Examples, tmp_path: Path
) -> None:
    config = settings_from(
        RunConfig,
        {
            "runs_folder": tmp_path,
            "training.strategy": name,
            "training.local_batches": 3,
            "training.seed": 7,
            "training.codec": codec,
            "aggregation.rule": rule,
            "rounds.count": 3,
            "rounds.min_agents": 3,
            "rounds.min_updates": 3,
            "data.dataset": "none",
        },
    )
    parts = partition(digits.labels, 3, "digit-pairs", 7)
    rooms = {f"room-{i}": digits.take(part) for i, part in enumerate(parts, 1)}

    simulated = simulate(config, rooms)

    experiment = Experiment(
        recipe=expand(name, 3),
        local_batches=3,
        num_agents=3,
        rounds=3,
        seed=7,
        codec=codec,
        aggregation=Aggregation(rule=rule),
    )
    assert digest(list(models(experiment, digits))[-1]) == simulated.model_sha256


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_learns_through_a_codec_in_chunks_what_it_learns_in_one_piece(
    name: str, digits: Examples, tmp_path: Path
) -> None:
    rooms = {f"room-{i}": digits.take(part) for i, part in enumerate(partition(digits.labels, 3, "iid", 7), 1)}
    settings = {"training.strategy": name, "training.local_batches": 2, "training.codec": "int8", "rounds.count": 3}
    settings |= {"rounds.min_agents": 3, "rounds.min_updates": 3, "data.dataset": "none", "runs_folder": tmp_path}

    # An update is some 30 kB: two chunks of 16 KiB.
    chunked, whole = World(traffic={}), World(traffic={})
    in_chunks = simulate(settings_from(RunConfig, settings | {"rounds.chunk_kib": 16}), rooms, chunked)
    in_one_piece = simulate(settings_from(RunConfig, settings), rooms, whole)

    assert (in_chunks.outcome, in_one_piece.outcome) == ("finished", "finished")
    assert in_chunks.model_sha256 == in_one_piece.model_sha256
    assert chunked.traffic is not None
    assert whole.traffic is not None
    assert chunked.traffic["room-1"].packet_bytes_up > whole.traffic["room-1"].packet_bytes_up


def test_run_stops_at_the_accuracy_that_was_asked_for(digits: Examples) -> None:
    accuracies = run(Experiment(recipe=expand("best", 3), local_batches=3, rounds=5, stop_at=0.01), digits, digits)

    assert len(accuracies) == 1


def test_missing_agent_is_drawn_anew_in_each_round_but_the_first() -> None:
    present = all_but_one(seed=1)
    missing = [set(range(5)) - set(present(number, 5)) for number in range(1, 30)]

    assert missing[0] == set()
    assert all(len(agents) == 1 for agents in missing[1:])
    assert set.union(*missing) == set(range(5))


def test_rounds_to_is_the_first_round_at_the_target() -> None:
    assert rounds_to([0.5, 0.9, 0.8, 0.95], 0.9) == 2
    assert rounds_to([0.5], 0.9) is None


def test_experiment_that_diverges_ends_with_the_accuracies_so_far(digits: Examples) -> None:
    wild = expand("fedavg", 3, learning_rate=1e6)

    assert run(Experiment(recipe=wild, local_batches=3, rounds=3), digits, digits) == []


def test_strategy_works_from_decoded_models_though_someone_is_missing(digits: Examples) -> None:
    experiment = Experiment(
        recipe=expand("best", 5), local_batches=5, rounds=6, seed=3, codec="int4,channel", present=all_but_one(3)
    )

    assert max(run(experiment, digits, digits)[-3:]) > 0.5
