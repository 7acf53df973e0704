"""One simulated run as a researcher asks for it: the demo's settings without processes, or a real run over again."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from coordinator.config import RunConfig
from coordinator.demo import DemoResult, DemoSettings, demo_config, demo_result
from coordinator.run import RunResult, saved_config
from coordinator.run_folder import RunFolder, new_run_id
from coordinator.service import Observer
from learning.datasets import Dataset, Examples
from learning.folders import load_folder
from learning.partition import partition
from schemas.errors import ConfigError
from schemas.measures import Traffic
from schemas.records import RoundRecord
from simulation.runner import World, accepted_by_round, simulate


def simulate_settings(
    settings: DemoSettings, dataset: Dataset, dataset_name: str, observe: Callable[[RunConfig], Observer]
) -> DemoResult:
    """The run that `coordinator demo` would do with these settings, in this process and in virtual time.

    Raises:
        ConfigError: a value is wrong; the text names it.
    """
    parts = partition(dataset.train.labels, settings.devices, settings.partition, settings.seed, settings.alpha)
    rooms = {f"room-{i}": dataset.train.take(indices) for i, indices in enumerate(parts, start=1)}
    begin_s = time.monotonic()
    traffic: dict[str, Traffic] = {}
    config = demo_config(settings, dataset_name, f"{new_run_id()}-sim", {})
    result = simulate(config, rooms, World(traffic=traffic), observe(config))
    return demo_result(settings, dataset_name, result, totals_of(traffic), time.monotonic() - begin_s)


def replay(
    runs_folder: Path, run_id: str, rooms_folder: Path | None, observe: Callable[[RunConfig], Observer]
) -> tuple[RunResult, list[str]]:
    """Simulate the closed rounds of a run again, with the updates that were accepted in it.

    Args:
        rooms_folder: holds one data folder per agent, by agent id; a demo's own is found beside its run.

    Returns:
        The result, and what differs from the run (empty when every round's model has the same bytes).

    Raises:
        ConfigError: there is no round to replay, or an agent's data is missing.
    """
    original = RunFolder.open(runs_folder, run_id)
    rounds = _rounds_of(original)
    if not rounds:
        raise ConfigError(f"run {run_id} has no closed round: there is nothing to replay")
    accepted = accepted_by_round(rounds)
    names = sorted({agent_id for agents in accepted.values() for agent_id in agents})
    rooms = {name: _room(rooms_folder or runs_folder / f"{run_id}.demo", name) for name in names}
    config = _replayed_config(saved_config(original), runs_folder, run_id, len(rounds))
    result = simulate(config, rooms, World(replay=accepted), observe(config))
    again = {record.round_number: record for record in _rounds_of(RunFolder.open(runs_folder, result.run_id))}
    differences = [
        f"round {record.round_number}: {again[record.round_number].model_sha256[:12]} instead of "
        f"{record.model_sha256[:12]}"
        if record.round_number in again
        else f"round {record.round_number}: was not reached"
        for record in rounds
        if record.round_number not in again or again[record.round_number].model_sha256 != record.model_sha256
    ]
    return result, differences


def totals_of(traffic: Mapping[str, Traffic]) -> dict[str, dict[str, int]]:
    """Packet bytes over the whole run, by agent."""
    return {
        name: {"packet_bytes_up": t.packet_bytes_up, "packet_bytes_down": t.packet_bytes_down}
        for name, t in traffic.items()
    }


def _rounds_of(folder: RunFolder) -> list[RoundRecord]:
    return [record for record in folder.records(("round",)) if isinstance(record, RoundRecord)]


def _replayed_config(config: RunConfig, runs_folder: Path, run_id: str, num_rounds: int) -> RunConfig:
    # Who must be there was decided when the run was real; here everybody whose update counted is.
    rounds = config.rounds.model_copy(
        update={
            "count": num_rounds,
            "target_accuracy": None,
            "min_agents": 1,
            "min_updates": 1,
            "quorum": None,
            "required_agents": (),
            "allowed_agents": None,
        }
    )
    return config.model_copy(
        update={"rounds": rounds, "runs_folder": runs_folder, "run_id": f"{run_id}-replay-{new_run_id()[-4:]}"[:63]}
    )


def _room(folder: Path, agent_id: str) -> Examples:
    home = folder / agent_id
    if not home.is_dir():
        raise ConfigError(f"no data of {agent_id} in {folder}: name the folder that holds one data folder per agent")
    return load_folder(home / "data" if (home / "data").is_dir() else home)
