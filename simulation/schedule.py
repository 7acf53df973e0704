"""Virtual time: what is to happen when, carried out in order, without waiting."""

import heapq
import math
from collections.abc import Callable
from typing import Any

STANDSTILL_ACTIONS = 100_000


class StandstillError(Exception):
    """Something acts again and again without letting time pass: a service whose `wake_at_s` never moves on."""


class Schedule:
    """A queue of actions. Those of the same moment run in the order in which they were scheduled.

    Attributes:
        now_s: virtual monotonic seconds.
    """

    def __init__(self, start_s: float = 0.0) -> None:
        self.now_s = start_s
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._scheduled = 0
        self._actions_now = 0

    def at(self, time_s: float, action: Callable[..., None], *args: Any) -> None:
        """Have `action(*args)` run at `time_s`, or next when that is past."""
        self._scheduled += 1
        at_s = time_s if time_s > self.now_s else self.now_s
        heapq.heappush(self._queue, (at_s, self._scheduled, action, args))

    def after(self, delay_s: float, action: Callable[..., None], *args: Any) -> None:
        """Have `action(*args)` run `delay_s` from now."""
        self.at(self.now_s + delay_s, action, *args)

    def next_s(self) -> float:
        """When the next action is due; `math.inf` when there is none."""
        return self._queue[0][0] if self._queue else math.inf

    def step(self) -> None:
        """Move to the next action and run it.

        Raises:
            StandstillError: too many actions ran at the same moment.
        """
        time_s, _, action, args = heapq.heappop(self._queue)
        if time_s > self.now_s:
            self.now_s, self._actions_now = time_s, 0
        self._actions_now += 1
        if self._actions_now > STANDSTILL_ACTIONS:
            raise StandstillError(f"{STANDSTILL_ACTIONS} actions at {self.now_s:g} s, the last one was {action}")
        action(*args)
