"""A process of agents that train nothing: each returns the model with one value changed. For load and overhead.

Everything but the training is the real agent: engine, service, connection, state on disk. Run as
`python -m benchmarks.echo_agents PORT FOLDER [--tls CERTIFICATES] ID...`. The first line on standard input is a JSON
object of passwords; every further line is answered with one JSON line of what the process has used so far. SIGTERM
ends it.
"""

import json
import secrets
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.certificates import files_of
from benchmarks.processes import peak_rss_mb, ports_to, tcp_bytes_to
from edge_agent.engine import ParticipantEngine
from edge_agent.events import StartTraining, TrainingFinished
from edge_agent.service import AgentService, Outside
from edge_agent.spool import Spool
from schemas import wire
from schemas.errors import ConfigError
from schemas.measures import Instant
from schemas.messages import AgentStatus, TrainingPlan
from schemas.topics import Address, Kind, Topics
from schemas.weights import Weights
from transport.address import BrokerAddress
from transport.driver import Loop
from transport.jobs import InlineJobs
from transport.mqtt import MqttTransport
from transport.ports import Connected, Disconnected, Event, Message, SessionSpec


class EchoTrainer:
    """Returns the model that it was given, with one value changed.

    Attributes:
        cpu_s_at: round -> CPU seconds of this process when its first training in that round began.
    """

    def __init__(self) -> None:
        self.cpu_s_at: dict[int, float] = {}

    def first_model(self, plan: TrainingPlan) -> Weights:
        """It cannot be made without torch."""
        raise ConfigError(f"echo agents do not make {plan.model}")

    def train(self, task: StartTraining, should_stop: Callable[[], bool]) -> TrainingFinished:
        """One copy of the model, and no training."""
        del should_stop
        announcement = task.announcement
        self.cpu_s_at.setdefault(announcement.round_number, time.process_time())
        weights = {name: np.array(array) for name, array in task.weights.items()}
        first = next(iter(weights.values()))
        first.reshape(-1)[0] += 1
        return TrainingFinished(announcement.run_id, announcement.round_number, weights, 100, 1, 0.5)


class Connections:
    """When the connections of this process were made, and why any were lost.

    Attributes:
        began_s: monotonic; ready_s: when the latest of them was ready.
        made: how many, reconnects included; open: how many there are; lost: by reason, failed attempts too.
    """

    def __init__(self) -> None:
        self.began_s = self.ready_s = time.monotonic()
        self.made = self.open = 0
        self.lost: Counter[str] = Counter()

    def note(self, event: Event, *, was_open: bool) -> bool:
        """Count what the transport says of one agent's connection; True when it is open now."""
        if isinstance(event, Connected):
            self.made += 1
            self.open += 1
            self.ready_s = time.monotonic()
            return True
        if isinstance(event, Disconnected):
            self.open -= was_open
            self.lost[event.reason] += 1
            return False
        return was_open


class NotedAgent(AgentService):
    """The real agent's service, and a note of each connection."""

    def __init__(self, engine: ParticipantEngine, outside: Outside, connections: Connections) -> None:
        super().__init__(engine, outside)
        self._connections = connections
        self._connected = False

    def on_event(self, event: Event, now: Instant) -> None:
        """As the agent's, noted."""
        self._connected = self._connections.note(event, was_open=self._connected)
        super().on_event(event, now)


class EchoAgents:
    """All agents of this process, on one thread."""

    def __init__(self, port: int, folder: Path, passwords: Mapping[str, str], tls_folder: Path | None = None) -> None:
        self._port = port
        self._tls_folder = tls_folder
        self._loop = Loop()
        self._trainer = EchoTrainer()
        self._connections = Connections()
        self._transports = [self._add(folder, name, password) for name, password in passwords.items()]

    def run(self) -> None:
        """Serve until SIGTERM."""
        self._loop.run()

    def used(self) -> dict[str, Any]:
        """What this process has used so far."""
        tcp = tcp_bytes_to(self._port)
        traffic = [transport.traffic for transport in self._transports]
        return {
            "agents": len(traffic),
            "cpu_s_at": self._trainer.cpu_s_at,
            "peak_rss_mb": peak_rss_mb(),
            "connected_at_s": [self._connections.began_s, self._connections.ready_s],
            "connected": self._connections.open,
            "connections_made": self._connections.made,
            "connections_lost": dict(self._connections.lost),
            "packet_bytes_up": sum(t.packet_bytes_up for t in traffic),
            "packet_bytes_down": sum(t.packet_bytes_down for t in traffic),
            "tcp_bytes_up": tcp.acked,
            "tcp_bytes_down": tcp.received,
            "ports": ports_to(self._port),
        }

    def _add(self, folder: Path, agent_id: str, password: str) -> MqttTransport:
        tls = files_of(self._tls_folder, agent_id) if self._tls_folder is not None else None
        topics, instance, jobs = Topics(), secrets.token_hex(6), InlineJobs()
        gone = wire.encode(AgentStatus(state="offline", instance=instance))
        will = Message(topics.build(Address(Kind.STATUS, agent_id)), gone, retain=True)
        session = SessionSpec(agent_id, tuple(topics.agent_filters(agent_id)), will)
        transport = MqttTransport(session, BrokerAddress("127.0.0.1", self._port, agent_id, password, tls))
        spool = Spool(folder / agent_id, agent_id)
        outside = Outside(topics, agent_id, transport, jobs, spool, self._trainer)
        engine = ParticipantEngine(agent_id, instance, ended=spool.note_start(instance))
        service = NotedAgent(engine, outside, self._connections)
        self._loop.add(service, transport, jobs)
        return transport


def _answer_questions(agents: EchoAgents) -> None:
    for _ in sys.stdin:
        sys.stdout.write(json.dumps(agents.used()) + "\n")
        sys.stdout.flush()


def main() -> None:
    """Entry point of the process."""
    port, folder, names = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    tls_folder = None
    if names[0] == "--tls":
        tls_folder, names = Path(names[1]), names[2:]
    passwords = json.loads(sys.stdin.readline())
    agents = EchoAgents(port, folder, {name: passwords[name] for name in names}, tls_folder)
    threading.Thread(target=_answer_questions, args=(agents,), daemon=True).start()
    agents.run()


if __name__ == "__main__":
    main()
