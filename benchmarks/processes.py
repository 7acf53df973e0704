"""What the kernel knows about processes and their sockets: CPU time, peak memory, bytes on TCP connections."""

import contextlib
import os
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_TCP_INFO_BYTES = 232
_BYTES_ACKED_AT = 120  # struct tcp_info of linux/tcp.h: two 64-bit counters, behind everything older
_NS = 1e-9


def cpu_seconds_of(pid: int) -> float:
    """CPU seconds of all threads of a process, finer than the clock ticks of /proc/PID/stat."""
    tasks = Path(f"/proc/{pid}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) * _NS


def peak_rss_mb(pid: int | str = "self") -> float:
    """The highest resident set of a process so far, in MB (10**6 bytes).

    From VmHWM: the rusage of a process that was started by vfork holds its parent's peak, too.
    """
    return _memory_mb(pid, "VmHWM")


def rss_mb(pid: int | str = "self") -> float:
    """The resident set of a process now, in MB."""
    return _memory_mb(pid, "VmRSS")


def available_memory_mb() -> float:
    """What the kernel thinks that new processes could have without swapping."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def _memory_mb(pid: int | str, field: str) -> float:
    found = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def ports_to(port: int) -> list[int]:
    """Our own ends of this process's connections to a port on loopback."""
    return [connection.getsockname()[1] for connection in _connections_to(port)]


class TcpBytes(NamedTuple):
    """Payload bytes of TCP connections as the kernel counts them, without retransmissions: `ss -ti` shows the same.

    Attributes:
        acked: sent and acknowledged (`bytes_acked`); received: taken in order (`bytes_received`).
    """

    acked: int
    received: int


def tcp_bytes_to(port: int) -> TcpBytes:
    """The bytes on all of this process's connections to a port on loopback."""
    acked = received = 0
    for connection in _connections_to(port):
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        one_acked, one_received = struct.unpack_from("=QQ", info, _BYTES_ACKED_AT)
        # The acknowledgement of our SYN counts as a byte.
        acked, received = acked + one_acked - 1, received + one_received
    return TcpBytes(acked, received)


def _connections_to(port: int) -> Iterator[socket.socket]:
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if not str(entry.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(entry.name))) as connection:
                if connection.family == socket.AF_INET and connection.getpeername()[1] == port:
                    yield connection
