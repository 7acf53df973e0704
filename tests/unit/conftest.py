"""Unit tests reach nothing outside their own process: a socket that connects fails the test."""

import socket

import pytest


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: socket.socket, address: object) -> None:
        pytest.fail(f"a unit test tried to connect to {address}; tests/integration is the place for that")

    monkeypatch.setattr(socket.socket, "connect", refuse)
