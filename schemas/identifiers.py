"""Constrained types for the names that appear in topics, files and tags.

An identifier can never hold a topic separator, a wildcard or a path component, so it is checked once here and
used without escaping everywhere else.
"""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from schemas.errors import ConfigError

IDENTIFIER_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
_IDENTIFIER = re.compile(IDENTIFIER_PATTERN[:-1] + r"\Z")

COORDINATOR_ID = "coordinator"
"""The coordinator's MQTT user name and its name as the sender of model blobs."""

MONITOR_ID = "monitor"
"""The MQTT user name of whoever watches the federation and writes nothing."""

UNKNOWN_ID = "unknown"
"""Refusals of senders that are no member are counted under this name, so that strangers cost no memory."""

_RESERVED: Final = {
    COORDINATOR_ID: "the coordinator's own name",
    MONITOR_ID: "the name of the broker's monitor",
    UNKNOWN_ID: "the name under which strangers are counted",
}

MAX_ROUND_NUMBER = 1_000_000


def _checked_agent(text: str) -> str:
    if text in _RESERVED:
        raise ValueError(f"{text!r} is {_RESERVED[text]}: choose another one, such as 'room-1'")
    return text


PartyId = Annotated[str, Field(pattern=IDENTIFIER_PATTERN)]
AgentId = Annotated[PartyId, AfterValidator(_checked_agent)]
RunId = Annotated[str, Field(pattern=IDENTIFIER_PATTERN)]
RoundNumber = Annotated[int, Field(ge=0, le=MAX_ROUND_NUMBER)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def is_identifier(text: str) -> bool:
    """True for 1 to 63 of `a-z`, `0-9` and `-` that do not start with `-`."""
    return _IDENTIFIER.match(text) is not None


def is_agent_id(text: str) -> bool:
    """True for an identifier that an agent may have: not one of the names that mean somebody else."""
    return is_identifier(text) and text not in _RESERVED


def checked_identifier(text: str, what: str) -> str:
    """Return `text`, or raise ConfigError saying what `what` (such as "agent id") must look like."""
    if not is_identifier(text):
        expected = "1 to 63 lower-case letters, digits or '-', not starting with '-'"
        raise ConfigError(f"{what} {text!r} is not valid: expected {expected}")
    return text


def checked_agent_id(text: str, what: str) -> str:
    """Return `text`, or raise ConfigError saying why no agent can be called so."""
    checked_identifier(text, what)
    try:
        return _checked_agent(text)
    except ValueError as error:
        raise ConfigError(f"{what} {error}") from error
