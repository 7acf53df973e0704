"""What a check of the doctor says: how it is, what was found, and what to do about it."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How a check came out. Only a problem keeps the agent from working."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's table.

    Attributes:
        check: what was looked at.
        detail: what was found.
        fix: what to do, as a command where there is one; empty when there is nothing to do.
    """

    check: str
    status: Status
    detail: str
    fix: str = ""


def ok(check: str, detail: str) -> Finding:
    """All is well."""
    return Finding(check, Status.OK, detail)


def note(check: str, detail: str, fix: str = "") -> Finding:
    """Worth knowing; nothing is wrong."""
    return Finding(check, Status.NOTE, detail, fix)


def warning(check: str, detail: str, fix: str) -> Finding:
    """Works, but a person should look into it."""
    return Finding(check, Status.WARNING, detail, fix)


def problem(check: str, detail: str, fix: str) -> Finding:
    """The agent cannot work like this."""
    return Finding(check, Status.PROBLEM, detail, fix)


def skipped(check: str, why: str, fix: str = "") -> Finding:
    """Could not be looked at."""
    return Finding(check, Status.SKIPPED, why, fix)
