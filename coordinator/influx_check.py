"""Says whether metrics can be shipped: does the server answer, does the bucket exist, may the token write?

Asks in that order and stops at the first no. Nothing is stored on the server. What its answers mean is put into
words by `influx.py`.
"""

from dataclasses import dataclass
from typing import Protocol

from coordinator.shipping import SinkError
from schemas.errors import ConfigError


class Server(Protocol):
    """What is asked."""

    @property
    def target(self) -> str:
        """Names server and bucket, without secrets."""

    def ask_version(self) -> str:
        """What the server says it is."""

    def write_nothing(self) -> None:
        """Ask for a write without any point."""


@dataclass(frozen=True, slots=True)
class Check:
    """One question and its answer.

    Attributes:
        name: `credentials`, `server` or `write`.
        detail: what was found; when it is not well, also what to do.
    """

    name: str
    ok: bool
    detail: str


def check(server: Server) -> list[Check]:
    """The questions up to the first that is answered with no."""
    checks: list[Check] = []
    try:
        version = server.ask_version()
        checks.append(Check("server", True, f"{version} answers at {server.target.split()[0]}"))
        server.write_nothing()
        checks.append(Check("write", True, "the bucket exists, and these credentials may write to it"))
    except ConfigError as error:
        checks.append(Check("credentials", False, str(error)))
    except SinkError as error:
        checks.append(Check("write" if checks else "server", False, _with_advice(error)))
    return checks


def _with_advice(error: SinkError) -> str:
    if "no answer" in str(error):
        return f"{error}. Is it running, and is influx.url its address as seen from here?"
    return str(error)
