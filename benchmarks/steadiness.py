"""Does a process that goes on and on need more and more? Samples of its memory, files and threads, and a verdict.

The rule, for each measure of each party: take the longest life of a process (from its start to its end or kill), leave
out its first half, in which caches fill and queues are for the first time as long as they get, and take the median of
the slopes between any two samples of the second (Theil 1950, Sen 1968), which single peaks do not move. It is flat when
that rises by less than its limit in a thousand rounds: the larger of 1 MB and 1 % of memory, one file, one thread. A
life that is too short says nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.processes import rss_mb

WARM_UP_SHARE = 0.5
FEWEST_ROUNDS = 250
"""Below this many rounds a slope says nothing."""

MEMORY_LIMIT_MB, MEMORY_LIMIT_SHARE = 1.0, 0.01
COUNT_LIMIT = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What a process held at one moment.

    Attributes:
        at_s: since the soak began; rounds: closed by then.
        rss_mb: resident memory; files: open descriptors.
    """

    party: str
    pid: int
    at_s: float
    rounds: int
    rss_mb: float
    files: int
    threads: int


def take_sample(party: str, pid: int, at_s: float, rounds: int) -> Sample | None:
    """A sample, or None when the process is no more."""
    process = Path(f"/proc/{pid}")
    try:
        files = sum(1 for _ in (process / "fd").iterdir())
        threads = sum(1 for _ in (process / "task").iterdir())
        memory_mb = rss_mb(pid)
    except OSError:
        return None
    return Sample(party, pid, at_s, rounds, memory_mb, files, threads) if memory_mb else None


class Trend(NamedTuple):
    """Where one measure goes.

    Attributes:
        level: the median; per_1000_rounds: how much it rises; flat: None when there are too few rounds to say.
    """

    level: float
    per_1000_rounds: float
    flat: bool | None


@dataclass(frozen=True, slots=True)
class Steadiness:
    """One party over the whole soak.

    Attributes:
        lives: processes that it was; rounds: that the fit of the longest one covers.
    """

    lives: int
    rounds: int
    memory_mb: Trend
    files: Trend
    threads: Trend

    @property
    def flat(self) -> bool | None:
        """True when everything is; None when nobody can say."""
        verdicts = [trend.flat for trend in (self.memory_mb, self.files, self.threads)]
        return None if None in verdicts else all(verdicts)


def judge(samples: Iterable[Sample]) -> Steadiness:
    """Apply the rule to one party's samples, of which there is at least one."""
    lives: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        lives[sample.pid].append(sample)
    longest = max(lives.values(), key=_span)
    start = longest[0].rounds + WARM_UP_SHARE * _span(longest)
    late = [sample for sample in longest if sample.rounds >= start]
    rounds = [sample.rounds for sample in late]
    memory = [sample.rss_mb for sample in late]
    most_mb = max(MEMORY_LIMIT_MB, MEMORY_LIMIT_SHARE * float(np.median(memory)))
    return Steadiness(
        lives=len(lives),
        rounds=_span(late),
        memory_mb=fit(rounds, memory, most_mb),
        files=fit(rounds, [float(sample.files) for sample in late], COUNT_LIMIT),
        threads=fit(rounds, [float(sample.threads) for sample in late], COUNT_LIMIT),
    )


def fit(rounds: Sequence[int], values: Sequence[float], limit: float) -> Trend:
    """The median slope between any two samples, held against its limit for a thousand rounds."""
    level = float(np.median(values))
    if len(set(rounds)) < 2:
        return Trend(level, 0.0, None)
    earlier, later = np.triu_indices(len(rounds), 1)
    steps = np.take(rounds, later) - np.take(rounds, earlier)
    rises = np.take(values, later) - np.take(values, earlier)
    slope = float(np.median(rises[steps > 0] / steps[steps > 0])) * 1000
    return Trend(level, slope, slope < limit if rounds[-1] - rounds[0] >= FEWEST_ROUNDS else None)


def _span(life: Sequence[Sample]) -> int:
    return life[-1].rounds - life[0].rounds
