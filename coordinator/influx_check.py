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
        name: `server`, `credentials`, `bucket` or `right to write`.
        detail: what was found; when it is not well, also what to do.
    """

    name: str
    ok: bool
    detail: str


_QUESTIONS = (("credentials", 401), ("bucket", 404), ("right to write", 403))
"""In the order in which servers ask them, with the status by which they say no."""


def check(server: Server) -> list[Check]:
    """The questions up to the first that is answered with no."""
    try:
        version = server.ask_version()
    except ConfigError as error:
        return [Check("credentials", False, str(error))]
    except SinkError as error:
        advice = "Is it running, and is influx.url its address as seen from here?"
        return [Check("server", False, f"{error}. {advice}" if error.mends_itself else str(error))]
    answers = Check("server", True, f"{version} answers at {server.target.split()[0]}")
    try:
        server.write_nothing()
    except SinkError as error:
        return [answers, *_refused(error)]
    return [answers, *(Check(name, True, "accepted") for name, _ in _QUESTIONS)]


def _refused(error: SinkError) -> list[Check]:
    """What was still well, and what was not; a status that says nothing of the three is about the write itself."""
    well: list[Check] = []
    for name, status in _QUESTIONS:
        if status == error.status:
            return [*well, Check(name, False, str(error))]
        well.append(Check(name, True, "accepted"))
    return [Check("write", False, str(error))]
