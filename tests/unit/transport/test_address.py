"""What went wrong with a connection, in words that tell a person what to do."""

import socket
import ssl
from pathlib import Path

import pytest

from transport.address import BrokerAddress, TlsFiles, explain

PLAIN = BrokerAddress("broker", 1883)
ENCRYPTED = BrokerAddress("broker", 8883, tls=TlsFiles(Path("ca.crt")))


def tls_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] something (_ssl.c:1)")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(), "nothing listens at broker:1883"),
        (TimeoutError(), "no answer from broker:1883"),
        (socket.gaierror(-2, "Name or service not known"), "the name 'broker' could not be resolved: Name or"),
        (ConnectionResetError(), "the connection to broker:1883 was reset"),
        (BrokenPipeError(), "the connection to broker:1883 was reset"),
        (OSError(113, "No route to host"), "the connection to broker:1883 failed: No route to host"),
        (tls_error("TLSV1_ALERT_PROTOCOL_VERSION"), "it accepts no TLS version that we speak"),
        (tls_error("UNSUPPORTED_PROTOCOL"), "it speaks no TLS version that we accept"),
        (tls_error("WRONG_VERSION_NUMBER"), "it does not speak TLS on this port"),
        (tls_error("SOMETHING_NEW"), "SOMETHING_NEW"),
    ],
)
def test_error_is_explained(error: Exception, words: str) -> None:
    assert words in explain(error, PLAIN)


def test_reset_while_opening_tls_asks_about_the_port() -> None:
    assert "is this port meant for TLS?" in explain(ConnectionResetError(), ENCRYPTED, opening=True)
    assert explain(ConnectionResetError(), ENCRYPTED) == "the connection to broker:8883 was reset"
