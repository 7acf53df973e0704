"""A party's real program in a process that stops itself at a named point of a round, as SIGSTOP would right there.

The program is the one that operators run; only its ports to the world are watched: what it publishes, trains, steps
and saves. All of this is in the tests: the product has no such points. A test sees in /proc that the process stands
still, does to it, or to others, what it came for, and lets it go on.
"""

import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import coordinator.run
import edge_agent.run
from coordinator.run_folder import Record
from coordinator.store import FolderStore
from coordinator.strategies import Aggregation, make_strategy
from coordinator.strategy import Aggregator, Strategy
from edge_agent.events import StartTraining, TrainingFinished
from edge_agent.trainer import RoomTrainer
from learning.strategies.strategy import State, Step
from schemas.messages import TrainingPlan
from schemas.topics import Address, Kind, Topics
from schemas.weights import Array, Weights
from transport.address import BrokerAddress
from transport.mqtt import MqttTransport
from transport.ports import Message, SessionSpec
from transport.timing import Timing

KEEP_ALIVE_S = 2
QUICK = Timing(first_retry_s=0.1, longest_retry_s=1.0)

COORDINATOR_POINTS = ("announcement", "receipt", "aggregation", "checkpoint", "record")
AGENT_POINTS = ("download", "training", "upload")


@dataclass(frozen=True, slots=True)
class Halt:
    """Where a process stops itself, once.

    Attributes:
        point: `announcement` before the first one goes out; `aggregation` when the updates are put together and the
            next model is to be made of them; `receipt` when an update was counted, before its agent is told;
            `checkpoint` when it is on disk and nobody has been told; `record` when the round is announced and the one
            before it is still to be recorded; `download` and `upload` with some of the chunks still to come;
            `training` between two batches.
    """

    point: str
    round_number: int


class Stopper:
    """Stops the process when it reaches the point.

    Attributes:
        round_number: the round that the party is at.
    """

    def __init__(self, halt: Halt | None) -> None:
        self._halt = halt
        self.round_number = 0

    def reach(self, point: str) -> None:
        """The party is at a point."""
        if self._halt == Halt(point, self.round_number):
            self._halt = None
            # To this very thread: not an instruction more is carried out.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def party(module: str, arguments: list[str], log: Path, halt: Halt | None, timing: Timing) -> None:
    """Be the program `module`, in this process, with everything that it says in `log`."""
    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.close(said)
    sys.argv = [module, *arguments]
    stopper = Stopper(halt)
    transport = _watched_transport(stopper, timing)
    store, trainer = _watched_store(stopper), _watched_trainer(stopper)
    with (
        mock.patch.object(coordinator.run, "MqttTransport", transport),
        mock.patch.object(coordinator.run, "FolderStore", store),
        mock.patch.object(coordinator.run, "make_strategy", _watched_strategy(stopper)),
        mock.patch.object(edge_agent.run, "MqttTransport", transport),
        mock.patch.object(edge_agent.run, "RoomTrainer", trainer),
    ):
        importlib.import_module(module).main()


def _watched_transport(stopper: Stopper, timing: Timing) -> type[MqttTransport]:
    class Transport(MqttTransport):
        """A connection with a short keep-alive."""

        def __init__(self, session: SessionSpec, broker: BrokerAddress) -> None:
            super().__init__(session, replace(broker, keep_alive_s=KEEP_ALIVE_S), timing)

        def publish(self, message: Message) -> None:
            """Hand over a message, unless this is where to stop."""
            address = Topics().parse(message.topic)
            if address is not None:
                _look_at(stopper, address, message)
            super().publish(message)

    return Transport


def _look_at(stopper: Stopper, address: Address, message: Message) -> None:
    if address.kind in (Kind.ANNOUNCEMENT, Kind.CALL):
        stopper.round_number = json.loads(bytes(message.payload))["round_number"]
        stopper.reach("announcement")
    elif address.kind is Kind.RECEIPT and json.loads(bytes(message.payload))["outcome"] == "accepted":
        stopper.reach("receipt")
    elif address.kind is Kind.REQUEST:
        request = json.loads(bytes(message.payload))
        if request["want"] == "chunks" and request.get("first", 0) > 0:
            stopper.round_number = request["round"]["round_number"]
            stopper.reach("download")
    elif address.kind is Kind.UPDATE_CHUNK and address.index > 1:
        stopper.round_number = address.round_number
        stopper.reach("upload")


def _watched_store(stopper: Stopper) -> type[FolderStore]:
    class Store(FolderStore):
        """The run's folder."""

        def save_checkpoint(
            self, round_number: int, weights: Weights, state: Mapping[str, Array], snapshot: dict[str, Any]
        ) -> None:
            """Write a checkpoint durably."""
            super().save_checkpoint(round_number, weights, state, snapshot)
            stopper.reach("checkpoint")

        def append(self, record: Record, *, durable: bool) -> None:
            """Append a record."""
            if record.type == "round":
                stopper.reach("record")
            super().append(record, durable=durable)

    return Store


def _watched_trainer(stopper: Stopper) -> type[RoomTrainer]:
    class Trainer(RoomTrainer):
        """The room's training."""

        def train(self, task: StartTraining, should_stop: Callable[[], bool]) -> TrainingFinished:
            """Train one round, looking between batches."""
            looks = 0

            def look() -> bool:
                nonlocal looks
                looks += 1
                if looks > 1:
                    stopper.round_number = task.announcement.round_number
                    stopper.reach("training")
                return should_stop()

            return super().train(task, look)

    return Trainer


def _watched_strategy(stopper: Stopper) -> Callable[[TrainingPlan, Aggregation], Strategy]:
    def make(plan: TrainingPlan, aggregation: Aggregation) -> Strategy:
        return _WatchedStrategy(make_strategy(plan, aggregation), stopper)

    return make


class _WatchedStrategy:
    """The run's strategy."""

    def __init__(self, strategy: Strategy, stopper: Stopper) -> None:
        self._strategy = strategy
        self._stopper = stopper
        self.name = strategy.name

    def aggregator(self, model: Weights) -> Aggregator:
        """An empty aggregator."""
        return self._strategy.aggregator(model)

    def step(self, model: Weights, aggregate: Weights, state: State) -> Step:
        """Move the global model."""
        self._stopper.reach("aggregation")
        return self._strategy.step(model, aggregate, state)
