"""What a federation's run comes to when nothing happens to it: from the simulation, on the same data."""

import tomllib
from pathlib import Path

from coordinator.config import RunConfig
from coordinator.run_folder import RunFolder
from coordinator.summary import rounds_of
from simulation.runner import simulate
from tests.integration.federation import RUN_ID, small_digits


def models_when_undisturbed(runs: Path, settings: str, num_agents: int) -> list[str]:
    """The digests of the global model after each round.

    Args:
        settings: TOML, as `Federation` gets them.
    """
    config = RunConfig.model_validate(tomllib.loads(settings) | {"runs_folder": runs, "run_id": RUN_ID})
    rooms = {f"room-{i}": small_digits(i) for i in range(1, num_agents + 1)}
    assert simulate(config, rooms).outcome == "finished"
    digests = [record.model_sha256 for record in rounds_of(RunFolder.open(runs, RUN_ID).records())]
    assert len(set(digests)) == config.rounds.count
    return digests
