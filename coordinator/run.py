"""Start and resume runs: puts the round engine, a broker, a folder and a test set together. No decisions here."""

import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordinator import checkpoints
from coordinator.config import RunConfig
from coordinator.engine import RoundEngine
from coordinator.machine import described as described_machine
from coordinator.quarantine import quarantined
from coordinator.run_folder import RunFolder, new_run_id
from coordinator.selection import Selector, at_most, select
from coordinator.service import CoordinatorService, Observer, Outside, Score
from coordinator.store import FolderStore
from coordinator.strategies import make_strategy
from learning.threads import use_threads
from schemas import wire
from schemas.errors import StorageError
from schemas.identifiers import COORDINATOR_ID
from schemas.messages import CoordinatorStatus
from schemas.records import RoundRecord, RunEvent
from schemas.topics import Address, Kind
from schemas.weights import Weights, digest
from transport.driver import drive, system_clock
from transport.jobs import ThreadJobs
from transport.mqtt import MqttTransport
from transport.ports import Message, SessionSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended.

    Attributes:
        outcome: `finished`, `aborted` or `stopped`; `detail` says why.
        model_sha256: digest of the last closed round's model.
    """

    run_id: str
    outcome: str
    detail: str
    folder: Path
    model_sha256: str


def start(config: RunConfig, observer: Observer | None = None) -> RunResult:
    """Make a new run and drive it to its end.

    Raises:
        FederationError: before anything is sent, when something in the configuration cannot work.
    """
    evaluate, weights = prepare(config)
    return _drive(config, create(config), weights, evaluate, observer)


def create(config: RunConfig) -> RunFolder:
    """The folder of a new run, which `resume` can then start.

    Raises:
        StorageError: the run exists already, or the disk does not allow it.
    """
    run_id = config.run_id or new_run_id()
    described = describe(config) | {"run_id": run_id} | described_machine(config.threads)
    return RunFolder.create(config.runs_folder, run_id, described)


def resume(runs_folder: Path, run_id: str, observer: Observer | None = None) -> RunResult:
    """Go on with a run that was stopped or killed, from its last checkpoint; the round that was open is reopened.

    Raises:
        StorageError: there is no such run, or another process is running it.
    """
    folder = RunFolder.open(runs_folder, run_id)
    config = saved_config(folder)
    evaluate, weights = prepare(config)
    return _drive(config, folder, weights, evaluate, observer)


def describe(config: RunConfig) -> dict[str, Any]:
    """A run's configuration as its folder keeps it: with its codec and plan, should a preset change some day."""
    described = config.model_dump(mode="json")
    described["training"]["codec"] = str(config.training.codecs)
    return described | {"plan": config.plan.model_dump(mode="json")}


def saved_config(folder: RunFolder) -> RunConfig:
    """The configuration that a run was started with."""
    kept = {key: value for key, value in folder.config.items() if key in RunConfig.model_fields}
    return RunConfig(**kept)


def prepare(config: RunConfig) -> tuple[Callable[[Weights], Score], Weights]:
    """The evaluation and the initial model of a run, with torch and the test set loaded."""
    from learning.evaluation import evaluate  # noqa: PLC0415 - torch takes seconds to load
    from learning.initialisation import initial_model  # noqa: PLC0415
    from learning.models import check_fits  # noqa: PLC0415
    from learning.parameters import get_weights  # noqa: PLC0415

    use_threads(config.threads)
    training = config.training
    module = initial_model(training.model, training.seed, training.recipe.make(), training.model_path)
    weights = get_weights(module)
    config.put_together(weights)  # is refused before anything is sent, if at all
    if config.data.dataset == "none":
        return lambda _weights: Score(0.0, 0.0), weights
    from learning.datasets import load_dataset  # noqa: PLC0415

    test = load_dataset(config.data.dataset, config.data.folder).test
    check_fits(module, test)

    def score(candidate: Weights) -> Score:
        result = evaluate(module, candidate, test)
        return Score(result.loss, result.accuracy)

    return score, weights


def build_engine(config: RunConfig, folder: RunFolder, weights: Weights, selector: Selector = select) -> RoundEngine:
    """The engine of a run, with its last checkpoint restored when there is one."""
    checkpoint = checkpoints.load_latest(folder.checkpoints_path)
    records = folder.records(("round", "event"))
    recorded = [record for record in records if isinstance(record, RoundRecord)]
    _check_restorable(folder, checkpoint, recorded)
    allowed = config.rounds.allowed_agents
    aggregation = config.put_together(weights)
    most = aggregation.max_updates(weights)
    engine = RoundEngine(
        config.rules(folder.run_id),
        make_strategy(config.plan, aggregation),
        checkpoint.weights if checkpoint else weights,
        session=new_session(),
        allowed=frozenset(allowed) if allowed is not None else None,
        selector=selector if most is None else at_most(most, selector),
    )
    if checkpoint is not None:
        last = next((r for r in reversed(recorded) if r.round_number == checkpoint.round_number), None)
        engine.restore(checkpoint.snapshot, checkpoint.state, last)
    engine.shut_out(quarantined(record for record in records if isinstance(record, RunEvent)))
    return engine


def new_session() -> str:
    """A coordinator's session: sorts by the time of its start, and differs even within a second."""
    return f"{int(time.time()):010x}-{secrets.token_hex(3)}"


def _check_restorable(
    folder: RunFolder, checkpoint: checkpoints.Checkpoint | None, recorded: list[RoundRecord]
) -> None:
    """Refuse to start a run over whose checkpoints are gone; say when only an older one can be read."""
    if checkpoint is None and recorded:
        raise StorageError(
            f"run {folder.run_id} has closed {recorded[-1].round_number} rounds, but there is no checkpoint in "
            f"{folder.checkpoints_path}: bring them back from a copy, or start a new run"
        )
    for path in checkpoint.damaged if checkpoint is not None else ():
        log.error("%s is damaged and passed over: the rounds after the last good checkpoint are repeated", path)


def _drive(
    config: RunConfig,
    folder: RunFolder,
    weights: Weights,
    evaluate: Callable[[Weights], Score],
    observer: Observer | None,
) -> RunResult:
    topics = config.broker.topics
    with folder.lock():
        engine = build_engine(config, folder, weights)
        gone = CoordinatorStatus(state="offline", session=engine.session, run_id=folder.run_id)
        will = Message(topics.build(Address(Kind.COORDINATOR_STATUS)), wire.encode(gone, 0), retain=True)
        # One client id per run: resuming a run takes over its session, another run's coordinator has its own.
        session = SessionSpec(
            name=f"{COORDINATOR_ID}-{folder.run_id}",
            filters=tuple(topics.coordinator_filters()),
            will=will,
        )
        transport = MqttTransport(session, config.broker.address())
        jobs = ThreadJobs()
        outside = Outside(topics, transport, jobs, FolderStore(folder), evaluate, system_clock, observer)
        service = CoordinatorService(engine, outside)
        drive(service, transport, jobs)
    return RunResult(folder.run_id, service.outcome, service.detail, folder.path, digest(engine.model))
