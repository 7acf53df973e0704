"""The floor under a round: the same messages between bare paho clients, and nothing else.

One publish of a blob to K subscribers, each of which answers at once with a blob of the same size; the next
exchange starts when all K answers are there. Callback-driven, no sleeps, no access rights, on a broker of its own.
A round of the real system sends these messages and some small ones, and also trains, checks, averages, records and
saves. Run as `python -m benchmarks.floor PORT SIZE FIRST COUNT` for the answering side.
"""

import contextlib
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from benchmarks.echo_run import AGENTS_PER_PROCESS, allow_many_files
from mosquitto.broker import LOOPBACK, find_mosquitto, free_port

ASK = "floor/ask"
LIMIT_S = 300.0
CONFIG = """\
listener {port} 127.0.0.1
allow_anonymous true
user root
set_tcp_nodelay true
max_queued_messages 0
max_inflight_messages 100
"""


@dataclass(frozen=True, slots=True)
class Floor:
    """What the exchange of the messages alone takes."""

    exchange_s_median: float
    megabytes_per_s: float


def floor_of(times_s: list[float], num_agents: int, payload_bytes: int) -> Floor:
    """The floor from the times of its exchanges."""
    median_s = statistics.median(times_s)
    return Floor(median_s, 2 * num_agents * payload_bytes / median_s / 1e6)


def measure_exchanges(folder: Path, num_agents: int, payload_bytes: int, exchanges: int) -> list[float]:
    """Seconds of each exchange of blobs with `num_agents` bare clients; the first one, a warm-up, is left out."""
    allow_many_files(num_agents)
    with _open_broker(folder) as port, _peers(port, num_agents, payload_bytes) as peers:
        asker = _Asker(port, num_agents, peers)
        return asker.run(payload_bytes, exchanges + 1)[1:]


@contextlib.contextmanager
def _open_broker(folder: Path) -> Iterator[int]:
    port = free_port()
    config = folder / "floor.conf"
    config.write_text(CONFIG.format(port=port))
    command = [find_mosquitto(), "-c", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(LIMIT_S)


@contextlib.contextmanager
def _peers(port: int, num_agents: int, payload_bytes: int) -> Iterator[list["subprocess.Popen[bytes]"]]:
    size = 1 if num_agents <= AGENTS_PER_PROCESS else AGENTS_PER_PROCESS
    command = [sys.executable, "-m", "benchmarks.floor", str(port), str(payload_bytes)]
    starts = range(0, num_agents, size)
    peers = [subprocess.Popen([*command, str(first), str(min(size, num_agents - first))]) for first in starts]
    try:
        yield peers
    finally:
        for peer in peers:
            peer.kill()
            peer.wait(LIMIT_S)


class _Asker:
    """The coordinator's part of the exchange."""

    def __init__(self, port: int, num_agents: int, peers: list["subprocess.Popen[bytes]"]) -> None:
        self._num_agents = num_agents
        self._peers = peers
        self._answers = 0
        self._ready: set[str] = set()
        self._done = threading.Event()
        self._client = _client("floor-asker", port)
        self._client.on_message = self._on_message
        self._client.subscribe([("floor/answer/+", 1), ("floor/ready/+", 1)])

    def run(self, payload_bytes: int, exchanges: int) -> list[float]:
        """Seconds from each publish to the last answer."""
        payload = b"\1" * payload_bytes
        self._client.loop_start()
        try:
            self._wait("the peers")
            times_s = []
            for _ in range(exchanges):
                self._answers = 0
                self._done.clear()
                begin_s = time.perf_counter()
                self._client.publish(ASK, payload, qos=1)
                self._wait("the answers")
                times_s.append(time.perf_counter() - begin_s)
        finally:
            self._client.disconnect()
            self._client.loop_stop()
            # paho closes its sockets when it is deleted: not in a circle with us, where they may be deleted before it.
            self._client.on_message = None
        return times_s

    def _wait(self, what: str) -> None:
        if not self._done.wait(LIMIT_S):
            raise TimeoutError(f"waited {LIMIT_S:g} s in vain for {what} of the floor")

    def _on_message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        if message.topic.startswith("floor/ready/"):
            self._ready.add(message.topic)
            if len(self._ready) == self._num_agents:
                self._done.set()
            return
        self._answers += 1
        if self._answers == self._num_agents:
            self._done.set()


def _client(name: str, port: int) -> Client:
    client = Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv5)
    give_up_s = time.monotonic() + LIMIT_S
    while True:
        try:
            client.connect(LOOPBACK, port)
        except ConnectionRefusedError:  # the broker is starting
            if time.monotonic() > give_up_s:
                raise
            time.sleep(0.01)
        else:
            return client


def _serve_peers(port: int, payload_bytes: int, first: int, count: int) -> None:
    payload = b"\2" * payload_bytes
    clients = []
    for number in range(first, first + count):
        client = _client(f"floor-{number}", port)
        client.on_message = lambda peer, _userdata, _message, n=number: peer.publish(f"floor/answer/{n}", payload, 1)
        # Retained, as the asker may subscribe later.
        client.on_subscribe = lambda peer, *_rest, n=number: peer.publish(f"floor/ready/{n}", b"1", 1, retain=True)
        client.subscribe(ASK, qos=1)
        clients.append(client)
    for client in clients[1:]:
        client.loop_start()
    clients[0].loop_forever()


if __name__ == "__main__":
    _serve_peers(*(int(argument) for argument in sys.argv[1:5]))
