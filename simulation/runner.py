"""Whole runs in virtual time: the coordinator's and the agents' own engines and services, on an in-memory network.

Training, aggregation and evaluation are real; only time and the network are not. Whenever the same updates are
accepted in each round, the global models have the same bytes as in a run over Mosquitto on the same kind of machine
with the same number of threads.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from coordinator.config import RunConfig
from coordinator.machine import described as described_machine
from coordinator.run import RunResult, build_engine, describe, prepare
from coordinator.run_folder import RunFolder, new_run_id
from coordinator.selection import Selector, select
from coordinator.service import CoordinatorService, Observer
from coordinator.service import Outside as CoordinatorOutside
from coordinator.store import FolderStore
from edge_agent.events import TrainingFinished
from edge_agent.trainer import RoomTrainer, RoundTrainer
from learning.datasets import Examples
from schemas import wire
from schemas.errors import ConfigError
from schemas.identifiers import COORDINATOR_ID
from schemas.measures import Instant, Traffic
from schemas.messages import CoordinatorStatus
from schemas.records import RoundRecord
from schemas.topics import Address, Kind
from schemas.weights import digest
from simulation.faults import NO_FAULTS, Faults
from simulation.jobs import Duration
from simulation.memory import MemorySpool
from simulation.network import Conditions, VirtualNetwork
from simulation.party import add_agent
from simulation.pool import DeferredTraining, training_pool
from transport.ports import Message, SessionSpec

MAX_VIRTUAL_S = 30 * 24 * 3600.0
CLOSING_S = 1.0
PI_BATCH_S = 0.025
"""Virtual seconds per local batch: about what a Raspberry Pi 4 takes for 16 images and the CNN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a simulated run happens in.

    Attributes:
        seed, faults: of the network; by default nothing goes wrong.
        batch_s: virtual seconds of one local batch, by agent; `PI_BATCH_S` for those not named.
        traffic: filled with each agent's traffic at the end.
        replay: round number -> the agents whose updates were accepted; these and no others are selected then.
        processes: that train, beside this one; 0 trains in this process. The bytes are the same either way, as long
            as this one trains with one thread.
    """

    seed: int = 0
    faults: Faults = NO_FAULTS
    batch_s: Mapping[str, float] | None = None
    replay: Mapping[int, Collection[str]] | None = None
    traffic: dict[str, Traffic] | None = None
    processes: int = 0


def simulate(
    config: RunConfig, rooms: Mapping[str, Examples], world: World = World(), observer: Observer | None = None
) -> RunResult:
    """Run `config` with one agent per room.

    Args:
        rooms: agent id -> its data.

    Raises:
        FederationError: something in the configuration cannot work.
    """
    if world.processes:
        with training_pool(rooms, world.processes, config.training.model_path) as pooled:
            return simulate_with(config, pooled, world, observer)
    trainers: dict[str, RoundTrainer] = {
        agent_id: RoomTrainer(agent_id, rooms[agent_id], config.training.model_path) for agent_id in rooms
    }
    return simulate_with(config, trainers, world, observer)


def simulate_with(
    config: RunConfig, trainers: Mapping[str, RoundTrainer], world: World, observer: Observer | None = None
) -> RunResult:
    """As `simulate`, with any trainers, such as ones that only echo the model."""
    run_id = config.run_id or new_run_id()
    evaluate, weights = prepare(config)
    described = describe(config) | {"run_id": run_id, "simulated": True} | described_machine(config.threads)
    folder = RunFolder.create(config.runs_folder, run_id, described)
    network = VirtualNetwork(world.seed, world.faults, Conditions(), Instant(0.0, time.time()))
    topics = config.broker.topics
    with folder.lock():
        engine = build_engine(config, folder, weights, selector_for(world.replay))
        gone = CoordinatorStatus(state="offline", session=engine.session, run_id=run_id)
        will = Message(topics.build(Address(Kind.COORDINATOR_STATUS)), wire.encode(gone, 0), retain=True)
        session = SessionSpec(f"{COORDINATOR_ID}-{run_id}", tuple(topics.coordinator_filters()), will)
        transport, jobs = network.transport(session), network.jobs()
        outside = CoordinatorOutside(topics, transport, jobs, FolderStore(folder), evaluate, network.clock, observer)
        service = CoordinatorService(engine, outside)
        network.add(service, transport, jobs)
        agents = {}
        for agent_id, trainer in trainers.items():
            batch_s = (world.batch_s or {}).get(agent_id, PI_BATCH_S)
            agents[agent_id] = add_agent(
                network, topics, trainer, agent_id, MemorySpool(), training_time(batch_s), instance="1"
            )
        if not network.run(until=lambda: service.finished, max_virtual_s=MAX_VIRTUAL_S):
            raise ConfigError(f"the run came to no end within {MAX_VIRTUAL_S / 86400:g} days of virtual time")
        # The last words are still on their way, and count.
        network.run(until=lambda: False, max_virtual_s=CLOSING_S)
    if world.traffic is not None:
        world.traffic.update({agent_id: agent.traffic for agent_id, agent in agents.items()})
    return RunResult(run_id, service.outcome, service.detail, folder.path, digest(engine.model))


def training_time(batch_s: float) -> Duration:
    """How long a training job takes in virtual time."""
    trained = (TrainingFinished, DeferredTraining)
    return lambda _name, result: batch_s * result.num_batches if isinstance(result, trained) else 0.0


def accepted_by_round(records: Collection[RoundRecord]) -> dict[int, tuple[str, ...]]:
    """The accepted sets of a run, for `World.replay`."""
    return {record.round_number: record.accepted for record in records}


def selector_for(replay: Mapping[int, Collection[str]] | None) -> Selector:
    """Select as the rules say, or exactly those whose updates were accepted in the run that is replayed."""
    if replay is None:
        return select
    return lambda _eligible, _rules, round_number: sorted(replay[round_number])
