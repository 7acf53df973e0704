"""The agent's service: what the engine asks for happens, and what goes wrong outside does not end the agent."""

import errno
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.engine import ParticipantEngine
from edge_agent.events import Carry, Measured, StartTraining, TrainingFinished
from edge_agent.sending import RESEND_S
from edge_agent.service import AgentService, Memory, Outside
from edge_agent.spool import Spool
from schemas import wire
from schemas.errors import TransportError
from schemas.measures import Instant, Traffic
from schemas.messages import AgentRequest, AgentStatus, TrainingPlan
from schemas.topics import Address, Kind, Topics
from schemas.weights import Weights
from simulation.memory import MemorySpool
from tests.unit.edge_agent.scripted import AGENT, INSTANCE, MAX_PACKET_BYTES, RUN, announced, arrived, model
from transport.ports import Connected, JobDone, Message, Received, StopRequested

TOPICS = Topics()
NOW = Instant(0.0, 0.0)


class Line:
    """A transport that notes what is published, or refuses everything."""

    def __init__(self) -> None:
        self.traffic = Traffic()
        self.sent: list[Message] = []
        self.broken = False

    def publish(self, message: Message) -> None:
        if self.broken:
            raise TransportError("the packet is larger than the broker takes")
        self.sent.append(message)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is open."""

    def kinds(self) -> list[Kind]:
        addresses = [TOPICS.parse(message.topic) for message in self.sent]
        return [address.kind for address in addresses if address is not None]


class WaitingJobs:
    """Jobs that are done when a test says so."""

    def __init__(self) -> None:
        self.work: dict[str, Callable[[], object]] = {}

    def submit(self, name: str, work: Callable[[], object]) -> None:
        self.work[name] = work

    def done(self, name: str) -> JobDone:
        try:
            return JobDone(name, self.work[name]())
        except ValueError as error:
            return JobDone(name, error=error)


class Trainer:
    """Gives the number of the round, and notes whether it was told to stop."""

    def __init__(self) -> None:
        self.stops: list[Callable[[], bool]] = []
        self.error: ValueError | None = None
        self.carry: Carry = {}

    def first_model(self, plan: TrainingPlan) -> Weights:
        assert plan
        if self.error is not None:
            raise self.error
        return model(9)

    def train(self, task: StartTraining, should_stop: Callable[[], bool]) -> TrainingFinished:
        self.stops.append(should_stop)
        if self.error is not None:
            raise self.error
        announcement = task.announcement
        return TrainingFinished(announcement.run_id, announcement.round_number, model(9), 1, 1, 0.5, self.carry)


class House:
    """A service and everything around it."""

    def __init__(self, spool: Memory | None = None) -> None:
        self.line, self.jobs, self.trainer = Line(), WaitingJobs(), Trainer()
        self.spool = MemorySpool()
        outside = Outside(
            TOPICS,
            AGENT,
            self.line,
            self.jobs,
            spool or self.spool,
            self.trainer,
            lambda run_id, number, traffic: Measured(run_id, number, traffic, 0.0, 0),
        )
        self.service = AgentService(ParticipantEngine(AGENT, INSTANCE), outside)
        self.service.on_event(Connected(MAX_PACKET_BYTES), NOW)

    def receive(self, kind: Kind, payload: bytes, round_number: int = 1, *, retain: bool = False) -> None:
        topic = TOPICS.build(Address(kind, AGENT, RUN, round_number))
        self.service.on_event(Received(Message(topic, payload, retain)), NOW)

    def open_round(self, number: int) -> None:
        self.receive(Kind.MODEL, bytes(arrived(number).payload), number)
        self.receive(Kind.ANNOUNCEMENT, wire.encode(announced(number).announcement))


def test_update_is_sent_when_the_training_is_done() -> None:
    house = House()
    house.open_round(1)

    house.service.on_event(house.jobs.done("train-1"), NOW)

    assert house.line.kinds() == [Kind.STATUS, Kind.UPDATE]


def test_first_model_is_made_by_the_trainer_when_it_is_announced_so() -> None:
    house = House()
    offer = announced(1, model(9)).announcement
    said = offer.model_copy(update={"model": offer.model.model_copy(update={"codec": "int8", "from_seed": True})})

    house.receive(Kind.ANNOUNCEMENT, wire.encode(said))
    house.service.on_event(house.jobs.done("derive-1"), NOW)
    house.service.on_event(house.jobs.done("train-2"), NOW)

    assert house.line.kinds() == [Kind.STATUS, Kind.UPDATE]


def test_first_model_is_fetched_when_the_trainer_cannot_make_it() -> None:
    house = House()
    house.trainer.error = ValueError("no such model here")
    offer = announced(1, model(9)).announcement
    said = offer.model_copy(update={"model": offer.model.model_copy(update={"codec": "int8", "from_seed": True})})

    house.receive(Kind.ANNOUNCEMENT, wire.encode(said))
    house.service.on_event(house.jobs.done("derive-1"), NOW)

    assert house.line.kinds() == [Kind.STATUS, Kind.REQUEST]


def test_result_of_an_abandoned_training_is_ignored() -> None:
    house = House()
    house.open_round(1)
    house.open_round(2)

    house.service.on_event(house.jobs.done("train-1"), NOW)
    assert house.trainer.stops[0]()
    assert house.line.kinds() == [Kind.STATUS]

    house.service.on_event(house.jobs.done("train-2"), NOW)
    assert not house.trainer.stops[1]()
    assert house.line.kinds() == [Kind.STATUS, Kind.UPDATE]


def test_failure_of_an_abandoned_training_is_ignored(caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    house.open_round(1)
    house.open_round(2)
    house.trainer.error = ValueError("stopped in the middle")

    house.service.on_event(house.jobs.done("train-1"), NOW)

    assert "stopped in the middle" not in caplog.text
    assert house.service.phase == "training"


def test_failed_training_is_in_the_log_and_the_agent_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    house.open_round(1)
    house.trainer.error = ValueError("the model does not fit the data")

    house.service.on_event(house.jobs.done("train-1"), NOW)

    assert "the model does not fit the data" in caplog.text
    assert not house.service.finished
    house.trainer.error = None
    house.open_round(2)
    house.service.on_event(house.jobs.done("train-2"), NOW)
    assert house.line.kinds()[-1] is Kind.UPDATE


def test_training_stops_when_the_agent_is_asked_to_end() -> None:
    house = House()
    house.open_round(1)
    done = house.jobs.done("train-1")

    house.service.on_event(StopRequested("SIGTERM"), NOW)

    assert house.service.finished
    assert not house.service.taken_over
    assert house.trainer.stops[0]()
    sent = len(house.line.sent)
    house.service.on_event(done, NOW)
    assert len(house.line.sent) == sent


def test_agent_says_why_it_ends_when_a_newer_process_has_its_id(caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    house.open_round(1)
    house.receive(Kind.STATUS, wire.encode(AgentStatus(state="online", instance=INSTANCE)))
    house.receive(Kind.STATUS, wire.encode(AgentStatus(state="online", instance="newer")))

    assert house.service.finished
    assert house.service.taken_over
    assert f"another process connected as agent {AGENT}: this one ends" in caplog.text
    assert house.line.kinds() == [Kind.STATUS]


def test_agent_goes_on_when_a_message_is_too_large_for_the_broker(caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    house.open_round(1)
    house.line.broken = True

    house.service.on_event(house.jobs.done("train-1"), NOW)

    assert "larger than the broker takes" in caplog.text
    assert not house.service.finished


def on_a_full_disk() -> House:
    house = House()
    house.spool.full = True
    return house


def test_update_that_carries_nothing_is_sent_when_the_disk_is_full(caplog: pytest.LogCaptureFixture) -> None:
    house = on_a_full_disk()
    house.open_round(1)

    house.service.on_event(house.jobs.done("train-1"), NOW)

    assert "disk is full: after a restart this must be trained" in caplog.text
    assert house.line.kinds()[-1] is Kind.UPDATE


def test_update_with_a_carry_stays_until_there_is_room_and_the_coordinator_is_told_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    house = on_a_full_disk()
    house.trainer.carry = {"momentum": model(1)["w"]}
    house.open_round(1)

    house.service.on_event(house.jobs.done("train-1"), NOW)

    assert "cannot be sent: the simulated disk is full" in caplog.text
    assert house.line.kinds() == [Kind.STATUS, Kind.REQUEST]
    asked = wire.decode(house.line.sent[-1].payload, AgentRequest).message
    assert asked.failed is not None
    assert (asked.failed.run_id, asked.failed.round_number, asked.failed.attempt) == (RUN, 1, 1)
    assert "the simulated disk is full" in asked.failed.detail

    house.spool.full = False
    house.service.on_time(Instant(RESEND_S, 0.0))

    assert house.line.kinds() == [Kind.STATUS, Kind.REQUEST, Kind.UPDATE]
    assert house.spool.carry_of(RUN, 1) is not None


@pytest.mark.parametrize("word", ["update.slot", "carry-0000001.safetensors"])
def test_agent_goes_on_when_the_card_has_become_read_only(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(Spool(tmp_path, AGENT))
    house.open_round(1)
    house.service.on_event(house.jobs.done("train-1"), NOW)
    real = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path.name == word:
            raise OSError(errno.EROFS, "Read-only file system")
        real(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    house.open_round(2)
    house.open_round(3)

    assert "Read-only file system" in caplog.text
    assert not house.service.finished
    assert house.service.phase == "training"


def test_cleared_status_is_not_worth_a_word(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    house = House()
    caplog.clear()

    house.receive(Kind.STATUS, b"", retain=True)

    assert caplog.text == ""
