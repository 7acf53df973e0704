"""Schema versions "major.minor", and the mark that says since when a field exists.

Within a major, parties of different minors work together: see `wire.py` for the rules.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A schema version. Another major cannot be understood; another minor can."""

    major: int
    minor: int

    @property
    def text(self) -> str:
        """As written in the `v` field, such as "1.1"."""
        return f"{self.major}.{self.minor}"


@dataclass(frozen=True, slots=True)
class Since:
    """Marks a field that came with a later minor; such a field must have a default."""

    minor: int


CURRENT = Version(1, 2)
"""1.0: rounds of fp32 weights. 1.1: codecs' names, and a device's temperature and throttling in its report. 1.2: models
as differences from the one before, or derived from the run's seed; an agent says what it cannot deliver."""
