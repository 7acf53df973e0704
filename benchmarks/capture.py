"""Packets as they are on a wire of Ethernet's size, captured in a network of one's own.

A thread enters a new network namespace whose loopback has Ethernet's packet size and no offloads, so that the packets
are those that a network card would send. An AF_PACKET socket sees all of them. Both need root (CAP_NET_RAW and
CAP_SYS_ADMIN), and nothing but Python.
"""

import array
import ctypes
import fcntl
import os
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

MTU_BYTES: Final = 1500
ETHERNET_HEADER_BYTES: Final = 14

_CLONE_NEWNET: Final = 0x40000000
_SIOCSIFFLAGS, _SIOCSIFMTU, _SIOCETHTOOL = 0x8914, 0x8922, 0x8946
_IFF_UP: Final = 1
_TURN_OFF: Final = (0x1F, 0x24, 0x2C)  # ETHTOOL_STSO, _SGSO, _SGRO of linux/ethtool.h
_ETH_P_ALL: Final = 3
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_BUFFER_BYTES: Final = 64 * 1024 * 1024
_HEAD_BYTES: Final = 128
_TCP: Final = 6

T = TypeVar("T")


@dataclass(slots=True)
class Captured:
    """What went one way over one connection.

    Attributes:
        ip_bytes: whole IP packets; payload_bytes: what TCP carried in them, retransmissions included.
    """

    packets: int = 0
    ip_bytes: int = 0
    payload_bytes: int = 0


def may_capture() -> bool:
    """True when this process may make a network of its own and look at its packets."""
    return _in_thread(_try_network)


def in_own_network(work: Callable[[], T]) -> T:
    """Run `work`, and all processes that it starts, in a network with nothing but a loopback like an Ethernet."""

    def enter_and_work() -> T:
        _enter_network()
        return work()

    return _in_thread(enter_and_work)


class Capture:
    """Counts TCP packets while it is open.

    Attributes:
        between: by source and destination port; to be read when closed.
        lost: packets that came faster than they were counted.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, 33, _BUFFER_BYTES)  # SO_RCVBUFFORCE
        self._socket.bind(("lo", _ETH_P_ALL))
        self._socket.settimeout(0.1)
        self._ended = threading.Event()
        self.between: dict[tuple[int, int], Captured] = defaultdict(Captured)
        self.lost = 0
        self._thread = threading.Thread(target=self._count, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Count what has come so far, and stop; a no-op the second time."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._thread.join()
        _, self.lost = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        self._socket.close()

    def sum_of(self, pairs: list[tuple[int, int]]) -> Captured:
        """All that went between these (source port, destination port)."""
        found = [self.between[pair] for pair in pairs]
        return Captured(
            sum(one.packets for one in found),
            sum(one.ip_bytes for one in found),
            sum(one.payload_bytes for one in found),
        )

    def _count(self) -> None:
        head = bytearray(_HEAD_BYTES)
        while True:
            try:
                _, address = self._socket.recvfrom_into(head)
            except TimeoutError:
                if self._ended.is_set():
                    return
                continue
            if address[2] == socket.PACKET_OUTGOING:  # loopback shows every packet twice
                self._note(head)

    def _note(self, frame: bytearray) -> None:
        ip = ETHERNET_HEADER_BYTES
        if frame[ip] >> 4 != 4 or frame[ip + 9] != _TCP:
            return
        ip_header_bytes = (frame[ip] & 15) * 4
        total_bytes = int.from_bytes(frame[ip + 2 : ip + 4], "big")
        tcp = ip + ip_header_bytes
        source, destination = struct.unpack_from(">HH", frame, tcp)
        one = self.between[source, destination]
        one.packets += 1
        one.ip_bytes += total_bytes
        one.payload_bytes += total_bytes - ip_header_bytes - (frame[tcp + 12] >> 4) * 4


def _in_thread(work: Callable[[], T]) -> T:
    """A thread's network is its own, and that of the processes that it starts; both end with it."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # is raised again by whoever waits
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _try_network() -> bool:
    try:
        _enter_network()
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)).close()
    except OSError:
        return False
    return True


def _enter_network() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        _set(control, _SIOCSIFMTU, struct.pack("i", MTU_BYTES))
        for command in _TURN_OFF:
            value = array.array("I", [command, 0])
            _set(control, _SIOCETHTOOL, struct.pack("P", value.buffer_info()[0]))
        _set(control, _SIOCSIFFLAGS, struct.pack("h", _IFF_UP))


def _set(control: socket.socket, request: int, value: bytes) -> None:
    fcntl.ioctl(control, request, struct.pack("16s24s", b"lo", value))
