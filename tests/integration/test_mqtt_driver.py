"""A whole process around the transport: how it starts, stops, and reports to systemd; and many parties in one."""

import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mosquitto.broker import PrivateBroker, free_port
from mosquitto.sizing import limits_for
from schemas.measures import Instant
from schemas.topics import Kind
from tests.integration.mqtt_party import LIMIT_S, Party, coordinator_session, topic
from transport.address import BrokerAddress
from transport.driver import Loop
from transport.jobs import InlineJobs
from transport.mqtt import MqttTransport
from transport.ports import Connected, Event, Message, Received, SessionSpec

ECHO = """
import math, sys
from tests.integration.mqtt_party import agent_session, topic
from schemas.topics import Kind
from transport.address import BrokerAddress
from transport.driver import drive
from transport.jobs import ThreadJobs
from transport.mqtt import MqttTransport
from transport.ports import Connected, Message, Received, StopRequested

class Echo:
    finished = False
    def on_event(self, event, now):
        match event:
            case Connected():
                transport.publish(Message(topic(Kind.STATUS), b"online"))
            case Received(message=message):
                transport.publish(Message(topic(Kind.UPDATE), message.payload))
            case StopRequested(reason=reason):
                transport.publish(Message(topic(Kind.STATUS), reason.encode()))
                self.finished = True
    def on_time(self, now): pass
    def wake_at_s(self): return math.inf

transport = MqttTransport(agent_session(), BrokerAddress("127.0.0.1", int(sys.argv[1]), "pi-1", sys.argv[2]))
drive(Echo(), transport, ThreadJobs())
"""


@dataclass
class Process:
    """An echo agent in a process of its own, and what it told systemd."""

    running: subprocess.Popen[bytes]
    manager: socket.socket

    def until_told(self, wanted: str) -> None:
        """Wait for a state that the process sends to systemd."""
        while wanted not in self.manager.recv(4096).decode():
            pass


@pytest.fixture
def start(broker: PrivateBroker, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    address = os.path.relpath(tmp_path / "notify")
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.settimeout(LIMIT_S)
    manager.bind(address)
    started: list[subprocess.Popen[bytes]] = []

    def start_process(port: int = 0) -> Process:
        environment = os.environ | {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "100000"}
        environment.pop("WATCHDOG_PID", None)
        command = [sys.executable, "-c", ECHO, str(port or broker.port), broker.passwords["pi-1"]]
        started.append(subprocess.Popen(command, env=environment))
        return Process(started[-1], manager)

    yield start_process
    for process in started:
        process.kill()
        process.wait()
    manager.close()


@pytest.fixture
def coordinator(broker: PrivateBroker) -> Iterator[Party]:
    address = BrokerAddress("127.0.0.1", broker.port, "coordinator", broker.passwords["coordinator"])
    party = Party(MqttTransport(coordinator_session(), address)).connect()
    yield party
    party.transport.close()


def test_process_echoes_and_says_goodbye_when_it_is_told_to_stop(
    start: Callable[..., Process], coordinator: Party
) -> None:
    process = start()
    coordinator.until(lambda: b"online" in coordinator.received())
    coordinator.transport.publish(Message(topic(Kind.ANNOUNCEMENT), bytes(189_000)))
    coordinator.until(lambda: bytes(189_000) in coordinator.received())

    process.running.send_signal(signal.SIGTERM)

    assert process.running.wait(LIMIT_S) == 0
    coordinator.until(lambda: b"SIGTERM" in coordinator.received())
    process.until_told("STOPPING=1")
    assert b"gone" not in coordinator.received()


def test_killed_process_leaves_its_will(start: Callable[..., Process], coordinator: Party) -> None:
    process = start()
    coordinator.until(lambda: b"online" in coordinator.received())

    process.running.kill()

    coordinator.until(lambda: b"gone" in coordinator.received())


def test_process_is_ready_and_alive_for_systemd_while_there_is_no_broker(start: Callable[..., Process]) -> None:
    process = start(free_port())

    process.until_told("READY=1")
    process.until_told("STATUS=not connected: nothing listens")
    process.until_told("WATCHDOG=1")
    process.until_told("WATCHDOG=1")
    process.running.send_signal(signal.SIGTERM)

    assert process.running.wait(LIMIT_S) == 0


@dataclass(eq=False)
class Counter:
    """A party that answers every number with the next one, until it has seen its last."""

    transport: MqttTransport
    answer_on: str
    first: int | None
    last: int
    seen: list[int] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        return bool(self.seen) and self.seen[-1] >= self.last

    def on_event(self, event: Event, _now: Instant) -> None:
        if isinstance(event, Connected) and self.first is not None:
            self._send(self.first)
        elif isinstance(event, Received):
            self.seen.append(int(event.message.payload))
            self._send(self.seen[-1] + 1)

    def on_time(self, _now: Instant) -> None:
        """Nothing is ever due."""

    def wake_at_s(self) -> float:
        return math.inf

    def _send(self, number: int) -> None:
        self.transport.publish(Message(self.answer_on, b"%d" % number))


def test_many_parties_talk_on_one_thread_until_each_is_finished(mosquitto_program: str, tmp_path: Path) -> None:
    assert mosquitto_program
    agents = [f"pi-{number}" for number in range(1, 21)]
    loop, counters = Loop(), []
    limits = limits_for(model_bytes=1000, num_agents=2 * len(agents))
    passwords = dict.fromkeys([*agents, "coordinator"], "secret")
    with PrivateBroker(tmp_path, passwords, limits=limits) as own_broker:

        def add(user: str, session: SessionSpec, answer_on: str, first: int | None, last: int) -> None:
            transport = MqttTransport(session, BrokerAddress("127.0.0.1", own_broker.port, user, "secret"))
            counters.append(Counter(transport, answer_on, first, last))
            loop.add(counters[-1], transport, InlineJobs())

        for agent in agents:
            # The other half of the pair has the coordinator's rights, and a name of its own.
            will = Message(topic(Kind.COORDINATOR_STATUS), b"0")
            session = SessionSpec(f"coordinator-of-{agent}", (topic(Kind.REPORT, agent),), will, 0)
            add("coordinator", session, topic(Kind.ANNOUNCEMENT, agent), None, last=100)
        for agent in agents:
            session = SessionSpec(agent, (topic(Kind.ANNOUNCEMENT, agent),), Message(topic(Kind.STATUS), b""), 0)
            add(agent, session, topic(Kind.REPORT, agent), 0, last=99)
        loop.run()

    assert all(counter.seen == list(range(0, 101, 2)) for counter in counters[:20])
    assert all(counter.seen == list(range(1, 100, 2)) for counter in counters[20:])
