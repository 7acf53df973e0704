"""Holds packets back for a while, on kernels that have no netem: a queue in the kernel, verdicts from here.

    python -m tests.testbed.netdelay DELAY_MS JITTER_MS NAMESPACE_FILE:QUEUE ...

Packets stay in the kernel (NFQUEUE); this program learns only their numbers and lets all up to a number pass when the
time has come, so that order is kept. Delay is fixed, plus an exponential jitter, as of a Wi-Fi with other stations on
the air. Prints `ready` when all queues are bound. Iptables sends packets here with `-j NFQUEUE --queue-bypass`: when
this program is gone, they pass at once.

The formats are those of linux/netfilter/nfnetlink_queue.h.
"""

import argparse
import ctypes
import os
import random
import select
import socket
import struct
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_NETLINK_NETFILTER = 12
_SUBSYSTEM_QUEUE = 3
_PACKET, _VERDICT_BATCH, _CONFIG = 0, 3, 2
_CONFIG_COMMAND, _CONFIG_PARAMETERS, _CONFIG_LENGTH, _CONFIG_MASK, _CONFIG_FLAGS = 1, 2, 3, 4, 5
_BIND = 1
_COPY_NUMBERS_ONLY = 1
_FLAG_WHOLE_SEGMENTS = 4
_QUEUE_LENGTH = 65536
_ACCEPT = 1
_VERDICT_HEADER = 2
_REQUEST, _ACKNOWLEDGE = 1, 4
_SOL_NETLINK, _NO_OVERRUN_ERRORS = 270, 5
_RECEIVE_BUFFER_FORCE = 33
_RECEIVE_BUFFER_BYTES = 8 << 20
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_ACKNOWLEDGE_BYTES = 20
_PACKET_ID_AT = slice(24, 28)
_MOST_AT_ONCE = 256


@dataclass(slots=True)
class Queue:
    """One queue of one network namespace, with the packets that wait in it."""

    connection: socket.socket
    number: int
    waiting: deque[tuple[float, bytes]] = field(default_factory=deque)

    def receive(self, delay_s: float) -> None:
        """Note what has arrived; a burst counts as one packet, as on the air."""
        last = b""
        with suppress(BlockingIOError):
            for _ in range(_MOST_AT_ONCE):
                message = self.connection.recv(512)
                if struct.unpack_from("H", message, 4)[0] == _SUBSYSTEM_QUEUE << 8 | _PACKET:
                    last = message[_PACKET_ID_AT]
        if last:
            earliest_s = self.waiting[-1][0] if self.waiting else 0.0
            self.waiting.append((max(time.monotonic() + delay_s, earliest_s), last))

    def release(self) -> None:
        """Let those pass whose time has come."""
        last = b""
        while self.waiting and self.waiting[0][0] <= time.monotonic():
            last = self.waiting.popleft()[1]
        if last:
            verdict = _attribute(_VERDICT_HEADER, struct.pack("!I", _ACCEPT) + last)
            self.connection.send(_message(_VERDICT_BATCH, self.number, verdict, flags=_REQUEST))


def open_queue(namespace: Path, number: int) -> Queue:
    """Bind a queue of another network namespace; ours stays the same afterwards."""
    with Path("/proc/self/ns/net").open("rb") as ours, namespace.open("rb") as theirs:
        _enter(theirs.fileno())
        try:
            connection = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        finally:
            _enter(ours.fileno())
    connection.bind((0, 0))
    connection.setsockopt(socket.SOL_SOCKET, _RECEIVE_BUFFER_FORCE, _RECEIVE_BUFFER_BYTES)
    connection.setsockopt(_SOL_NETLINK, _NO_OVERRUN_ERRORS, 1)
    for body in (
        _attribute(_CONFIG_COMMAND, struct.pack("!BxH", _BIND, socket.AF_INET)),
        _attribute(_CONFIG_PARAMETERS, struct.pack("!IB", 0, _COPY_NUMBERS_ONLY)),
        _attribute(_CONFIG_LENGTH, struct.pack("!I", _QUEUE_LENGTH)),
        _attribute(_CONFIG_MASK, struct.pack("!I", _FLAG_WHOLE_SEGMENTS))
        + _attribute(_CONFIG_FLAGS, struct.pack("!I", _FLAG_WHOLE_SEGMENTS)),
    ):
        connection.send(_message(_CONFIG, number, body, flags=_REQUEST | _ACKNOWLEDGE))
        error = -struct.unpack_from("i", connection.recv(4096), _ACKNOWLEDGE_BYTES - 4)[0]
        if error:
            raise OSError(error, f"{os.strerror(error)}: queue {number} of {namespace}")
    connection.setblocking(False)
    return Queue(connection, number)


def serve(queues: list[Queue], delay_s: float, jitter_s: float) -> None:
    """Delay until killed."""
    by_descriptor = {queue.connection.fileno(): queue for queue in queues}
    generator = random.Random(1)  # noqa: S311 (noise, not a secret)
    while True:
        due_s = min((queue.waiting[0][0] for queue in queues if queue.waiting), default=None)
        wait_s = None if due_s is None else max(0.0, due_s - time.monotonic())
        for descriptor in select.select(list(by_descriptor), [], [], wait_s)[0]:
            jitter = generator.expovariate(1 / jitter_s) if jitter_s else 0.0
            by_descriptor[descriptor].receive(delay_s + jitter)
        for queue in queues:
            queue.release()


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _NEW_NETWORK):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _attribute(kind: int, content: bytes) -> bytes:
    length = 4 + len(content)
    return struct.pack("HH", length, kind) + content + b"\0" * (-length % 4)


def _message(kind: int, queue: int, body: bytes, *, flags: int) -> bytes:
    content = struct.pack("!BBH", 0, 0, queue) + body
    return struct.pack("IHHII", 16 + len(content), _SUBSYSTEM_QUEUE << 8 | kind, flags, 1, 0) + content


def main() -> None:
    """Bind the queues that the arguments name and delay their packets."""
    parser = argparse.ArgumentParser(prog="netdelay")
    parser.add_argument("delay_ms", type=float)
    parser.add_argument("jitter_ms", type=float)
    parser.add_argument("queues", nargs="+", metavar="NAMESPACE_FILE:QUEUE")
    options = parser.parse_args()
    pairs = [pair.rsplit(":", 1) for pair in options.queues]
    queues = [open_queue(Path(namespace), int(number)) for namespace, number in pairs]
    print("ready", flush=True)
    serve(queues, options.delay_ms / 1000, options.jitter_ms / 1000)


if __name__ == "__main__":
    main()
