"""What must be true of every run, whatever goes wrong; a world full of faults is held against it while it goes on.

`Promises` listens to what the coordinator says and compares it with what its disk would keep; the watched spool and
trainer do the same for an agent. `check_records` holds the finished run's records against an implementation of the
aggregation that shares nothing with the real one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from coordinator.rules import RoundRules
from edge_agent.events import StartTraining, TrainingFinished
from schemas import wire
from schemas.measures import Traffic
from schemas.messages import Receipt, RoundAnnouncement, RoundCall, Standing
from schemas.records import RoundRecord, RunEvent
from schemas.topics import Address, Kind, Topics
from schemas.weights import digest
from simulation.arithmetic import ArithmeticTrainer, expected_models
from simulation.connection import VirtualTransport
from simulation.disk import MemoryDisk
from simulation.memory import MemorySpool
from transport.ports import Message


class BrokenPromiseError(Exception):
    """Something that must hold for every run does not; the text says what."""


@dataclass(slots=True)
class Promises:
    """What was said in a run so far.

    Attributes:
        models: round -> digest of the model that it was announced with.
        reports: agent -> rounds whose report it was told to be on disk.
        acknowledged: agent -> the last round for which it was told that its update counts.
        over: agents were told that the run has ended.
        broken: the first promise that did not hold; noted as well as raised, as jobs keep what they raise.
    """

    disk: MemoryDisk
    models: dict[int, str] = field(default_factory=dict)
    reports: dict[str, set[int]] = field(default_factory=dict)
    acknowledged: dict[str, int] = field(default_factory=dict)
    over: bool = False
    broken: str = ""

    def on_said(self, address: Address, message: Message) -> None:
        """The coordinator says something to an agent."""
        match address.kind:
            case Kind.ANNOUNCEMENT:
                said = wire.decode(message.payload, RoundAnnouncement).message
                self._check_model(said.round_number, said.model.sha256)
                self._check_durable(address.agent_id, said.round_number - 1, said.recorded_reports)
            case Kind.CALL:
                call = wire.decode(message.payload, RoundCall).message
                self._check_model(call.round_number, call.sha256)
                self._check_durable(address.agent_id, call.round_number - 1, call.recorded_reports)
            case Kind.STANDING:
                stood = wire.decode(message.payload, Standing).message
                self.over = self.over or stood.phase != "waiting"
                self._check_durable(address.agent_id, stood.closed_round, stood.recorded_reports)
            case Kind.RECEIPT:
                receipt = wire.decode(message.payload, Receipt).message
                if receipt.outcome == "accepted":
                    last = self.acknowledged.get(address.agent_id, 0)
                    self.acknowledged[address.agent_id] = max(last, receipt.round_number)

    def must_keep(self, agent_id: str, round_number: int) -> bool:
        """True for an update that counts in a round that a crash of the coordinator would open again."""
        acknowledged = round_number == self.acknowledged.get(agent_id)
        return acknowledged and round_number > self.disk.durable_round and not self.over

    def fail(self, text: str) -> BrokenPromiseError:
        """Note a broken promise; the error to raise."""
        self.broken = self.broken or text
        return BrokenPromiseError(text)

    def _check_model(self, round_number: int, sha256: str) -> None:
        if self.models.setdefault(round_number, sha256) != sha256:
            raise self.fail(f"round {round_number} was announced with two models")

    def _check_durable(self, agent_id: str, closed_round: int, reports: tuple[int, ...]) -> None:
        if closed_round > self.disk.durable_round:
            raise self.fail(f"{agent_id} was told that round {closed_round} is closed, it is not on disk")
        lost = set(reports) - self.disk.reported(agent_id)
        if lost:
            raise self.fail(f"{agent_id} was told that reports {sorted(lost)} are on disk")
        self.reports.setdefault(agent_id, set()).update(reports)


class WatchedTransport:
    """The coordinator's transport, with `Promises` listening."""

    def __init__(self, transport: VirtualTransport, topics: Topics, promises: Promises) -> None:
        self._transport, self._topics, self._promises = transport, topics, promises

    @property
    def traffic(self) -> Traffic:
        """Bytes so far."""
        return self._transport.traffic

    def publish(self, message: Message) -> None:
        """Hand over a message."""
        address = self._topics.parse(message.topic)
        if address is not None:
            self._promises.on_said(address, message)
        self._transport.publish(message)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Say goodbye."""
        self._transport.close()


class WatchedSpool(MemorySpool):
    """An agent's disk: what the coordinator may need again must not be forgotten."""

    def __init__(self, agent_id: str, promises: Promises) -> None:
        super().__init__()
        self._agent_id, self._promises = agent_id, promises

    def forget_update(self, run_id: str, round_number: int, *, accepted: bool) -> None:
        """See `MemorySpool`."""
        if self._promises.must_keep(self._agent_id, round_number):
            raise self._promises.fail(f"{self._agent_id} forgot its counted update of the open round {round_number}")
        super().forget_update(run_id, round_number, accepted=accepted)


class WatchedTrainer(ArithmeticTrainer):
    """An agent's training: an update that counts is not made a second time."""

    def __init__(self, agent_id: str, promises: Promises) -> None:
        super().__init__(agent_id)
        self._promises = promises

    def train(self, task: StartTraining, should_stop: Callable[[], bool]) -> TrainingFinished:
        """See `ArithmeticTrainer`."""
        number = task.announcement.round_number
        if self._promises.must_keep(self.agent_id, number):
            raise self._promises.fail(f"{self.agent_id} trains round {number} again, its update counts already")
        return super().train(task, should_stop)


def check_end(outcome: str, detail: str, rules: RoundRules, promises: Promises) -> None:
    """Hold a run that is over against its promises.

    Raises:
        BrokenPromiseError: one of them does not hold.
    """
    if outcome not in ("finished", "aborted") or not detail:
        raise BrokenPromiseError(f"ended {outcome!r} without a reason")
    records = promises.disk.records
    if not any(isinstance(record, RunEvent) and record.name == outcome for record in records):
        raise BrokenPromiseError("the end is not in the record")
    check_records(promises.disk, rules, finished=outcome == "finished")
    for agent_id, told in promises.reports.items():
        lost = told - promises.disk.reported(agent_id)
        if lost:
            raise BrokenPromiseError(f"reports {sorted(lost)} of {agent_id} were acknowledged and are lost")


def check_records(disk: MemoryDisk, rules: RoundRules, *, finished: bool) -> None:
    """Hold the recorded rounds against the reference implementation.

    Raises:
        BrokenPromiseError: a round is missing, or is not the mean of exactly its accepted updates.
    """
    rounds = disk.rounds()
    _check_order(disk)
    numbers = sorted(rounds)
    if numbers != list(range(1, len(numbers) + 1)):
        raise BrokenPromiseError(f"rounds recorded: {numbers}")
    if finished and len(numbers) != rules.rounds:
        raise BrokenPromiseError(f"finished after {len(numbers)} of {rules.rounds} rounds")
    accepted = [rounds[n].accepted for n in numbers]
    for number, model in enumerate(expected_models(accepted, rules.codecs), start=1):
        record = rounds[number]
        if record.model_sha256 != digest(model):
            raise BrokenPromiseError(f"round {number} is not the mean of its accepted updates {record.accepted}")
        if not set(record.accepted) <= set(record.selected) or len(set(record.accepted)) != len(record.accepted):
            raise BrokenPromiseError(f"round {number} accepted {record.accepted} of {record.selected}")
        if len(record.accepted) < rules.min_updates:
            raise BrokenPromiseError(f"round {number} closed with {len(record.accepted)} updates")


def _check_order(disk: MemoryDisk) -> None:
    """A round is opened before the one before it is recorded, but not in the record."""
    recorded = 0
    for record in disk.records:
        if isinstance(record, RoundRecord):
            recorded = max(recorded, record.round_number)
        elif isinstance(record, RunEvent) and record.name == "round-opened" and record.round_number > recorded + 1:
            raise BrokenPromiseError(f"round {record.round_number} opened in the record after round {recorded}")
