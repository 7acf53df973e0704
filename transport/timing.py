"""How patient a transport is, and how long it waits before it connects again: the same over a broker and in memory."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Time limits; the defaults suit a building's network.

    Attributes:
        connect_s: for TCP and again for TLS: the only time for which the thread can be blocked (name resolution
            has the resolver's own limits).
        setup_s: from an open connection until the last subscription is acknowledged.
        close_s: for what was handed over before `close` to be acknowledged.
        first_retry_s, longest_retry_s: the pause before connecting again doubles between these; each is
            multiplied by a random number between 0.5 and 1.5.
    """

    connect_s: float = 3.0
    setup_s: float = 20.0
    close_s: float = 5.0
    first_retry_s: float = 1.0
    longest_retry_s: float = 60.0


USUAL_TIMING = Timing()


class Backoff:
    """The pauses between attempts to connect.

    Args:
        name: the party's, from which its random numbers follow, so that parties do not all come back at once.
        timing: the shortest and the longest pause.
    """

    def __init__(self, name: str, timing: Timing) -> None:
        self._timing = timing
        self._random = random.Random(name)  # noqa: S311 (spreads reconnects, guards nothing)
        self._failures = 0

    def next_pause_s(self) -> float:
        """How long to wait after one more failure."""
        pause_s = self._timing.first_retry_s * 2.0 ** min(self._failures, 32)
        self._failures += 1
        return min(self._timing.longest_retry_s, pause_s) * self._random.uniform(0.5, 1.5)

    def reset(self) -> None:
        """Connected: the next pause is the shortest one again."""
        self._failures = 0
