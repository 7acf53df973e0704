"""Errors that a person or a peer must act on.

One base class, one subclass per thing that can be done about it. A refusal of something that came over the
network is data, not a crash: `PayloadError` carries the reason code that travels back to the sender.
"""

import errno
from enum import StrEnum


class Reason(StrEnum):
    """Why a message from the network was refused: the codes of receipts and of the refusal metrics."""

    TOO_LARGE = "too-large"
    MALFORMED = "malformed"
    UNSUPPORTED_VERSION = "unsupported-version"
    UNEXPECTED_FIELD = "unexpected-field"
    UNKNOWN_TOPIC = "unknown-topic"
    UNKNOWN_AGENT = "unknown-agent"
    WRONG_SENDER = "wrong-sender"
    WRONG_RUN = "wrong-run"
    STALE_ROUND = "stale-round"
    FUTURE_ROUND = "future-round"
    NOT_SELECTED = "not-selected"
    DUPLICATE = "duplicate"
    WRONG_BASE = "wrong-base"
    WRONG_NAMES = "wrong-names"
    WRONG_SHAPE = "wrong-shape"
    WRONG_DTYPE = "wrong-dtype"
    WRONG_EXAMPLES = "wrong-examples"
    WRONG_DIGEST = "wrong-digest"
    NON_FINITE = "non-finite"
    NORM_EXCEEDED = "norm-exceeded"
    OVERFLOW = "overflow"
    UNKNOWN_CODEC = "unknown-codec"
    UNSOLICITED = "unsolicited"
    QUARANTINED = "quarantined"


class FederationError(Exception):
    """Base of every error that this project raises on purpose."""


class ConfigError(FederationError):
    """A setting is wrong; the text names the file and the key and says what was expected."""


class DataError(FederationError):
    """A data set or folder is missing or damaged; the text names it and says what to do."""


class TransportError(FederationError):
    """The broker cannot be used; the text names its address and what it answered."""


class StorageError(FederationError):
    """A file of a run or of an agent cannot be read or written; the text names it."""


def why_not_written(error: OSError) -> str:
    """What the system says to a file that cannot be written and, when its disk is full, what a person can do."""
    said = error.strerror or str(error)
    return f"{said}; make room on this disk" if is_full(error) else said


def is_full(error: OSError) -> bool:
    """True when there is no room: on the disk, or within what the user may take of it."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


class PayloadError(FederationError):
    """A message was refused.

    Attributes:
        reason: the code that is sent back and counted.
        detail: one sentence for the person who looks into it.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
