"""The published reference result that every demo is printed beside: five Raspberry Pi 4s, MNIST, the same CNN."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StudyResult:
    """One result of the reference study.

    Attributes:
        local_batches: E; all with batches of 16 and five agents in each round.
        bytes_per_device: over the whole run, both ways; None where the study does not say.
    """

    partition: str
    local_batches: int
    accuracy: float
    rounds: int
    bytes_per_device: int | None = None


STUDY = (
    StudyResult("iid", 40, 0.95, 6),
    StudyResult("digit-pairs", 10, 0.85, 25, 10_000_000),
)


def study_result(partition: str) -> StudyResult | None:
    """The study's result for a partition, or None."""
    return next((result for result in STUDY if result.partition == partition), None)
