"""Constrained types for the names that appear in topics, files and tags.

An identifier can never hold a topic separator, a wildcard or a path component, so it is checked once here and
used without escaping everywhere else.
"""

import re
from typing import Annotated

from pydantic import Field

from schemas.errors import ConfigError

IDENTIFIER_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
_IDENTIFIER = re.compile(IDENTIFIER_PATTERN[:-1] + r"\Z")

COORDINATOR_ID = "coordinator"
"""The coordinator's MQTT user name and its name as the sender of model blobs; no agent may be called this."""

MAX_ROUND_NUMBER = 1_000_000

AgentId = Annotated[str, Field(pattern=IDENTIFIER_PATTERN)]
RunId = Annotated[str, Field(pattern=IDENTIFIER_PATTERN)]
RoundNumber = Annotated[int, Field(ge=0, le=MAX_ROUND_NUMBER)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def is_identifier(text: str) -> bool:
    """True for 1 to 63 of `a-z`, `0-9` and `-` that do not start with `-`."""
    return _IDENTIFIER.match(text) is not None


def checked_identifier(text: str, what: str) -> str:
    """Return `text`, or raise ConfigError saying what `what` (such as "agent id") must look like."""
    if not is_identifier(text):
        expected = "1 to 63 lower-case letters, digits or '-', not starting with '-'"
        raise ConfigError(f"{what} {text!r} is not valid: expected {expected}")
    return text
