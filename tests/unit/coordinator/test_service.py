"""The coordinator's service: actions become calls, and nothing more is done once a record could not be kept."""

from collections.abc import Callable, Mapping
from typing import Any

from coordinator.events import UpdateArrived
from coordinator.service import CoordinatorService, Outside, Score
from schemas import wire
from schemas.errors import StorageError
from schemas.measures import Instant, Traffic
from schemas.messages import AgentStatus
from schemas.records import DeviceRecord, RoundRecord, RunEvent
from schemas.topics import Address, Kind, Topics
from schemas.weights import Array, Weights
from tests.unit.coordinator.engine_driver import EngineDriver
from transport.jobs import run as run_job
from transport.ports import Connected, JobDone, Message, Received, StopRequested

TOPICS = Topics()


class Wire:
    """A transport that keeps what is published."""

    def __init__(self) -> None:
        self.traffic = Traffic()
        self.sent: list[str] = []

    def publish(self, message: Message) -> None:
        self.sent.append(message.topic)

    def flush(self) -> None:
        """Nothing is held back."""


class Worker:
    """Does jobs when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], JobDone]] = []

    def submit(self, name: str, work: Callable[[], object]) -> None:
        self.waiting.append(lambda: run_job(name, work))


class Disk:
    """A store that is full when the test says so."""

    def __init__(self) -> None:
        self.full = False
        self.checkpoints: list[int] = []

    def append(self, record: RoundRecord | DeviceRecord | RunEvent, *, durable: bool) -> None:
        if self.full:
            raise StorageError("the disk is full")

    def save_checkpoint(
        self, round_number: int, weights: Weights, state: Mapping[str, Array], snapshot: dict[str, Any]
    ) -> None:
        self.checkpoints.append(round_number)

    def releases(self) -> list[str]:
        return []

    def forget_release(self, agent_id: str) -> None:
        raise AssertionError("nobody was let out")


class ServiceBench:
    """A service with its world."""

    def __init__(self) -> None:
        self.driver = EngineDriver()
        self.wire, self.worker, self.disk = Wire(), Worker(), Disk()
        self.now = Instant(0.0, 0.0)
        outside = Outside(
            TOPICS,
            self.wire,  # type: ignore[arg-type]
            self.worker,
            self.disk,
            lambda _weights: Score(0.5, 0.9),
            lambda: self.now,
        )
        self.service = CoordinatorService(self.driver.engine, outside)

    def open_round(self) -> None:
        self.service.on_time(self.now)
        self.service.on_event(Connected(1 << 20), self.now)
        self.now = Instant(1.0, 1.0)
        self.service.on_time(self.now)
        status = wire.encode(AgentStatus(state="online", instance="1"))
        self.receive(Address(Kind.STATUS, "a"), status)

    def receive(self, address: Address, payload: bytes) -> None:
        self.service.on_event(Received(Message(TOPICS.build(address), payload)), self.now)

    def deliver(self) -> None:
        event = UpdateArrived("a", self.driver.rules.run_id, self.driver.open_number, self.driver.update("a"))
        address = Address(Kind.UPDATE, "a", event.run_id, event.round_number)
        self.receive(address, bytes(event.payload))

    def work(self) -> None:
        for job in self.worker.waiting:
            self.service.on_event(job(), self.now)
        self.worker.waiting = []


def announcements(bench: ServiceBench) -> int:
    return bench.wire.sent.count(TOPICS.build(Address(Kind.ANNOUNCEMENT, "a")))


def test_round_goes_through_when_its_jobs_are_done() -> None:
    bench = ServiceBench()
    bench.open_round()
    bench.deliver()
    assert announcements(bench) == 1
    bench.work()
    assert bench.disk.checkpoints == [1]
    assert announcements(bench) == 2


def test_nothing_more_is_said_when_the_record_of_the_round_could_not_be_kept() -> None:
    bench = ServiceBench()
    bench.open_round()
    bench.deliver()
    bench.disk.full = True
    bench.work()
    assert bench.service.finished
    assert (bench.service.outcome, bench.service.detail) == ("stopped", "the disk is full")
    assert bench.wire.sent[-1] == TOPICS.build(Address(Kind.ANNOUNCEMENT, "a")), "it rests on the checkpoint alone"


def test_run_stops_to_be_resumed_when_the_evaluation_fails() -> None:
    bench = ServiceBench()
    bench.open_round()
    bench.deliver()
    bench.service.on_event(JobDone("evaluation", error=ValueError("no test set")), bench.now)
    assert (bench.service.outcome, bench.service.detail) == ("stopped", "evaluation failed: no test set")


def test_run_stops_when_it_is_asked_to() -> None:
    bench = ServiceBench()
    bench.open_round()
    bench.service.on_event(StopRequested("SIGTERM"), bench.now)
    assert (bench.service.outcome, bench.service.detail) == ("stopped", "SIGTERM")
