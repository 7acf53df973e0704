"""What systemd is told, on a real datagram socket."""

import math
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from transport.systemd import Notifier


class Manager:
    """The service manager's end."""

    def __init__(self, address: str) -> None:
        self.environment = {"NOTIFY_SOCKET": address.replace("\0", "@"), "WATCHDOG_USEC": "2000000"}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)

    def told(self) -> list[str]:
        states = []
        while True:
            try:
                states.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return states

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    # A path may not be longer than 107 bytes, as tmp_path well may.
    path = os.path.relpath(tmp_path / "notify")
    manager = Manager(path if request.param == "path" else f"\0federation-test-{os.getpid()}")
    yield manager
    manager.close()


def test_state_arrives_at_the_manager(manager: Manager) -> None:
    Notifier(manager.environment).send("READY=1\nSTATUS=connecting")

    assert manager.told() == ["READY=1\nSTATUS=connecting"]


def test_watchdog_is_pinged_at_half_of_its_time(manager: Manager) -> None:
    notifier = Notifier(manager.environment)

    for now_s in (10.0, 10.5, 10.9, 11.0, 11.5, 12.1):
        notifier.ping_if_due(now_s)

    # At 10.0 (the first time), 11.0 and 12.1.
    assert manager.told() == ["WATCHDOG=1"] * 3
    assert notifier.ping_at_s == 13.1


def test_watchdog_of_another_process_is_not_ours(manager: Manager) -> None:
    notifier = Notifier(manager.environment | {"WATCHDOG_PID": "1"})

    notifier.ping_if_due(10.0)

    assert manager.told() == []
    assert notifier.ping_at_s == math.inf


def test_nothing_happens_without_a_manager() -> None:
    notifier = Notifier({})

    notifier.send("READY=1")
    notifier.ping_if_due(10.0)

    assert notifier.ping_at_s == math.inf


def test_manager_that_is_away_is_no_failure(tmp_path: Path) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).send("READY=1")
