"""Drives a round engine by hand: a clock that stands still, a model of three numbers, and every action kept.

Decides nothing that the engine decides. `hold` leaves checkpoint and evaluation to the test; otherwise both are done
at once, as a fast disk would.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from coordinator.engine import CLAIM_S, Phase, RoundEngine
from coordinator.events import (
    Action,
    AgentAsked,
    AgentSeen,
    CheckpointSaved,
    ConnectionGained,
    ConnectionLost,
    CoordinatorSeen,
    End,
    Evaluate,
    Evaluated,
    Event,
    Proceed,
    Proceeded,
    Publish,
    Record,
    SaveCheckpoint,
    Started,
    StopAsked,
    TimePassed,
    UpdateArrived,
)
from coordinator.rules import RoundRules
from coordinator.strategy import AggregateThenStep
from learning.strategies.fedavg import FedAvg
from schemas import wire
from schemas.errors import Reason
from schemas.measures import Instant, Traffic
from schemas.messages import (
    AgentRequest,
    AgentStatus,
    BlobHeader,
    ChunksWanted,
    CoordinatorStatus,
    Receipt,
    RoundAnnouncement,
    RoundRef,
    Standing,
    TrainingPlan,
    WireMessage,
)
from schemas.records import DeviceRecord, RoundRecord, RunEvent
from schemas.topics import Kind
from schemas.weights import Array, Weights, digest, encode

RUN_ID = "run-1"
START_S = 1000.0
UTC_AHEAD_S = 1_700_000_000.0
PACKET_BYTES = 1024 * 1024
PLAN = TrainingPlan(model="cnn", local_batches=10, batch_size=16, learning_rate=0.05, seed=1)

KINDS: dict[type[WireMessage], Kind] = {
    RoundAnnouncement: Kind.ANNOUNCEMENT,
    Standing: Kind.STANDING,
    Receipt: Kind.RECEIPT,
    ChunksWanted: Kind.WANTED,
    CoordinatorStatus: Kind.COORDINATOR_STATUS,
}

L = TypeVar("L", bound=WireMessage)


def three(*numbers: float) -> dict[str, Array]:
    """A model, or an update of it."""
    return {"w": np.array(numbers, np.float32)}


class EngineDriver:
    """One engine, its clock and everything that it asked for.

    Args:
        allowed: as for the engine.
        session: of this coordinator.
        weights: the initial model, or the resumed one.
        rules: what `RoundRules` is to have besides the run and its plan.
    """

    def __init__(
        self,
        *,
        allowed: frozenset[str] | None = None,
        session: str = "100",
        weights: Weights | None = None,
        hold: bool = False,
        **rules: Any,
    ) -> None:
        chosen: dict[str, Any] = {"run_id": RUN_ID, "plan": PLAN, "rounds": 3, "deadline_s": 60.0} | rules
        self.rules = RoundRules(**chosen)
        model = three(0, 0, 0) if weights is None else weights
        self.engine = RoundEngine(self.rules, AggregateThenStep(FedAvg()), model, session, allowed)
        self.now_s = START_S
        self.hold = hold
        self.accuracy = 0.5
        self.done: list[Action] = []
        self._mark = 0

    # -- what happens

    def handle(self, event: Event) -> list[Action]:
        """Let one thing happen; everything that the engine then asked for, in order."""
        begin = len(self.done)
        for action in self.engine.handle(event, Instant(self.now_s, self.now_s + UTC_AHEAD_S)):
            self.done.append(action)
            if isinstance(action, Proceed):
                self.handle(Proceeded(Traffic()))
            elif isinstance(action, SaveCheckpoint) and not self.hold:
                self.handle(CheckpointSaved(action.round_number, 0.25))
            elif isinstance(action, Evaluate) and not self.hold:
                self.handle(Evaluated(action.round_number, 1.5, self.accuracy, 0.5))
        return self.done[begin:]

    def connect(self, max_packet_bytes: int = PACKET_BYTES) -> None:
        """The broker is in reach."""
        self.handle(ConnectionGained(max_packet_bytes))

    def reconnect(self) -> None:
        """The broker is in reach again, and nobody denies our claim."""
        self.connect()
        self.wait(CLAIM_S)

    def disconnect(self) -> None:
        """The broker is out of reach."""
        self.handle(ConnectionLost())

    def wait(self, seconds: float) -> None:
        """Time passes, and nothing else."""
        self.now_s += seconds
        self.handle(TimePassed())

    def begin(self, *agent_ids: str) -> None:
        """Start, connect, find no other coordinator, and greet these agents."""
        self.handle(Started())
        self.connect()
        self.wait(CLAIM_S)
        self.join(*agent_ids)

    def join(self, *agent_ids: str, minor: int = 1, instance: str = "1", retained: bool = False) -> None:
        """Agents announce themselves."""
        for agent_id in agent_ids:
            status = AgentStatus(state="online", instance=instance)
            self.handle(AgentSeen(agent_id, status, minor, retained))

    def leave(self, *agent_ids: str, instance: str = "1") -> None:
        """The agents' wills come."""
        for agent_id in agent_ids:
            status = AgentStatus(state="offline", instance=instance)
            self.handle(AgentSeen(agent_id, status, 1))

    def ask(self, agent_id: str, want: Any = "state", round_number: int | None = None, **fields: Any) -> None:
        """An agent asks."""
        ref = None if round_number is None else RoundRef(run_id=RUN_ID, round_number=round_number)
        self.handle(AgentAsked(agent_id, AgentRequest(want=want, round=ref, **fields), 1))

    def deliver(
        self,
        agent_id: str,
        weights: Weights | None = None,
        num_examples: int = 1,
        *,
        topic_run: str = RUN_ID,
        topic_round: int | None = None,
        **header: Any,
    ) -> None:
        """An update comes, of the open round unless something else is said."""
        number = self.open_number if topic_round is None else topic_round
        payload = self.update(agent_id, weights, num_examples, **{"round_number": number} | header)
        self.handle(UpdateArrived(agent_id, topic_run, number, payload))

    def update(
        self,
        agent_id: str,
        weights: Weights | None = None,
        num_examples: int = 1,
        *,
        minor: int = 1,
        extra: Mapping[str, Any] | None = None,
        **header: Any,
    ) -> bytes:
        """An update blob with the right header, except for what is said otherwise; `extra` is put into its JSON."""
        fields: dict[str, Any] = {
            "kind": "update",
            "run_id": RUN_ID,
            "round_number": self.open_number,
            "sender": agent_id,
            "base_sha256": digest(self.engine.model),
            "num_examples": num_examples,
            "num_batches": 10,
        }
        message = BlobHeader(**fields | header)
        written = json.loads(wire.encode(message, minor)) | dict(extra or {})
        return encode(three(1, 2, 3) if weights is None else weights, json.dumps(written).encode())

    def complete(self, kind: type[SaveCheckpoint] | type[Evaluate]) -> None:
        """What was asked for last, and held, is done now."""
        held = [action for action in self.done if isinstance(action, kind)][-1]
        if isinstance(held, SaveCheckpoint):
            self.handle(CheckpointSaved(held.round_number, 0.25))
        else:
            self.evaluated(1.5)

    def evaluated(self, loss: float) -> None:
        """The evaluation of the last closed round comes in."""
        self.handle(Evaluated(self.engine.round_number, loss, self.accuracy, 0.5))

    def stop(self) -> None:
        """The service manager wants the run to stop."""
        self.handle(StopAsked("SIGTERM"))

    def hear(self, session: str, *, state: Any = "online", retained: bool = False, **fields: Any) -> None:
        """A coordinator's status comes."""
        self.handle(CoordinatorSeen(CoordinatorStatus(state=state, session=session, **fields), retained))

    def close_round(self, *agent_ids: str) -> None:
        """These agents deliver, which closes the open round when they are all that it waits for."""
        for agent_id in agent_ids:
            self.deliver(agent_id)

    # -- what is seen

    @property
    def open_number(self) -> int:
        """The number of the open round, or of the one that would be next."""
        opened = self.engine.open_round
        return opened.number if opened is not None else self.engine.round_number + 1

    def is_in(self, *phases: Phase) -> bool:
        """True when the run is in one of these phases."""
        return self.engine.phase in phases

    def forget(self) -> None:
        """Look only at what comes from now on."""
        self._mark = len(self.done)

    @property
    def seen(self) -> list[Action]:
        """All actions since `forget`."""
        return self.done[self._mark :]

    def messages(self, kind: type[L], agent_id: str = "") -> list[L]:
        """The messages of one kind, to one agent, since `forget`."""
        payloads = self.payloads(KINDS[kind], agent_id)
        return [wire.decode(payload, kind).message for payload in payloads]

    def payloads(self, kind: Kind, agent_id: str = "") -> list[bytes | memoryview]:
        """The payloads of one kind, to one agent, since `forget`."""
        published = (action for action in self.seen if isinstance(action, Publish))
        return [p.payload for p in published if p.address.kind is kind and p.address.agent_id == agent_id]

    def invited(self) -> list[str]:
        """Whom a round was announced to since `forget`, sorted."""
        published = (action for action in self.seen if isinstance(action, Publish))
        return sorted({p.address.agent_id for p in published if p.address.kind is Kind.ANNOUNCEMENT})

    def outcomes(self, agent_id: str) -> list[tuple[str, Reason | None]]:
        """What the receipts to an agent say, since `forget`."""
        return [(receipt.outcome, receipt.reason) for receipt in self.messages(Receipt, agent_id)]

    def records(self) -> list[RoundRecord]:
        """The rounds' records so far, from the beginning."""
        return [a.record for a in self.done if isinstance(a, Record) and isinstance(a.record, RoundRecord)]

    def device_records(self) -> list[DeviceRecord]:
        """The devices' records so far, from the beginning."""
        return [a.record for a in self.done if isinstance(a, Record) and isinstance(a.record, DeviceRecord)]

    def events(self, name: str) -> list[RunEvent]:
        """The run's events of one name so far, from the beginning."""
        found = (a.record for a in self.done if isinstance(a, Record) and isinstance(a.record, RunEvent))
        return [event for event in found if event.name == name]

    def end(self) -> End | None:
        """How the run ended, or None."""
        return next((action for action in self.done if isinstance(action, End)), None)

    def refusals(self) -> Mapping[str, Mapping[str, int]]:
        """The refusals in the last round's record."""
        return self.records()[-1].refused

    def model(self) -> list[float]:
        """The global model's three numbers."""
        return [float(number) for number in self.engine.model["w"]]


def resumed(stopped: EngineDriver, checkpoint: SaveCheckpoint, *, recorded: bool, **options: Any) -> EngineDriver:
    """Another coordinator that goes on from a checkpoint; `recorded`: the round's record outlived the first one."""
    records = {record.round_number: record for record in stopped.records()}
    driver = EngineDriver(weights=checkpoint.weights, session="200", **options)
    record = records[checkpoint.round_number] if recorded else None
    driver.engine.restore(checkpoint.snapshot, checkpoint.state, record)
    return driver


def checkpoints(actions: Iterable[Action]) -> list[SaveCheckpoint]:
    """The checkpoints among some actions."""
    return [action for action in actions if isinstance(action, SaveCheckpoint)]
