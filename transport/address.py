"""Where the broker is, how the connection to it is encrypted, and what went wrong with it, in words."""

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The PEM files of an encrypted connection.

    Attributes:
        ca: the authorities that the broker's certificate must come from; nothing else is trusted.
        cert, key: our own certificate, where the broker asks for one.
    """

    ca: Path
    cert: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 or newer, with the broker's certificate and name checked.

        Raises:
            ConfigError: a file is missing or is not what it should be.
        """
        reading = self.ca
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert is not None:
                reading = self.cert
                context.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError) as error:
            files = f"{reading} (with key {self.key})" if reading == self.cert else str(reading)
            raise ConfigError(f"TLS file {files} cannot be used: {error}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the broker is and what it wants to see.

    Attributes:
        keep_alive_s: the longest silence on the connection; the broker publishes the will after one and a half
            times as much.
    """

    host: str
    port: int = 1883
    username: str | None = None
    password: str | None = None
    tls: TlsFiles | None = None
    keep_alive_s: int = 60

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def explain(error: Exception, address: BrokerAddress, *, opening: bool = False) -> str:
    """Say what a failed connection means for the person who has to act; `opening`: it was never established."""
    match error:
        case ssl.SSLCertVerificationError():
            words = f"the certificate of {address} was not accepted: {error.verify_message}"
        case ssl.SSLEOFError() | ConnectionResetError() if opening and address.tls:
            words = f"TLS with {address} failed: it hung up (is this port meant for TLS?)"
        case ssl.SSLError():
            words = f"TLS with {address} failed: {_TLS_WORDS.get(error.reason or '', error.reason or str(error))}"
        case socket.gaierror():
            words = f"the name {address.host!r} could not be resolved: {error.strerror}"
        case ConnectionRefusedError():
            words = f"nothing listens at {address}"
        case TimeoutError():
            words = f"no answer from {address}"
        case ConnectionResetError() | BrokenPipeError():
            words = f"the connection to {address} was reset"
        case _:
            words = f"the connection to {address} failed: {getattr(error, 'strerror', None) or error}"
    return words


_TLS_WORDS = {
    "WRONG_VERSION_NUMBER": "it does not speak TLS on this port",
    "UNSUPPORTED_PROTOCOL": "it speaks no TLS version that we accept (1.2 or newer)",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it accepts no TLS version that we speak (1.2 or newer)",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it asks for a certificate and we have none",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not know the authority of our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "our certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "our certificate has been revoked",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept our certificate",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it refused the handshake (a certificate may be missing)",
}
