"""Which faults a soak meets, and when: all of it follows from the seed. Decides, and breaks nothing itself.

Each party is spared by one half of the run, so that a process gets old enough to show what it leaks: the coordinator
is killed in the first half only, the broker in the second only, and some agents never are.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What is done to a party."""

    CUT = "connection cut"
    HELD = "line dead for a while"
    AGENT_KILLED = "agent killed"
    AGENT_SUSPENDED = "agent suspended for a while"
    COORDINATOR_KILLED = "coordinator killed and resumed"
    BROKER_KILLED = "broker killed"
    BROKER_RESTARTED = "broker restarted"


ANYTIME = (Kind.CUT, Kind.HELD, Kind.AGENT_KILLED, Kind.AGENT_SUSPENDED)
FIRST_HALF = (*ANYTIME, Kind.COORDINATOR_KILLED)
SECOND_HALF = (*ANYTIME, Kind.BROKER_KILLED, Kind.BROKER_RESTARTED)
OFTEN = (Kind.CUT, Kind.CUT, Kind.AGENT_KILLED)
"""These come so much more often than the others."""

CALM_ROUNDS = 5
"""At the beginning and at the end."""

SHORTEST_ROUNDS, LONGEST_ROUNDS = 3, 30
"""Of what lasts a while."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        round_number: it happens as soon as so many rounds are closed.
        target: whom it hits; empty where there is but one.
        lasts_rounds: 0 for what is over at once.
    """

    round_number: int
    kind: Kind
    target: str
    lasts_rounds: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Who can be hit: `lines` by cuts, `agent_lines` by what lasts, `agents` by kills and suspensions."""

    lines: Sequence[str]
    agent_lines: Sequence[str]
    agents: Sequence[str]


def plan_faults(rounds: int, every: int, seed: int, targets: Targets) -> list[Fault]:
    """The faults of a run, in order.

    Args:
        every: rounds from one fault to the next, on average.
    """
    rng = random.Random(seed)  # noqa: S311 (a plan that can be repeated, no secret)
    halves = {True: _deck(FIRST_HALF, rng), False: _deck(SECOND_HALF, rng)}
    faults = []
    at = CALM_ROUNDS
    while at < rounds - CALM_ROUNDS:
        kind = next(halves[2 * at < rounds])
        lasts = rng.randint(SHORTEST_ROUNDS, LONGEST_ROUNDS) if kind in (Kind.HELD, Kind.AGENT_SUSPENDED) else 0
        faults.append(Fault(at, kind, _target(kind, targets, rng), lasts))
        at += rng.randint(1, 2 * every - 1)
    return faults


def _deck(kinds: Sequence[Kind], rng: random.Random) -> Iterator[Kind]:
    """Each kind once, in random order, and then over and over with the frequent ones more often."""
    cards = list(kinds)
    while True:
        rng.shuffle(cards)
        yield from cards
        cards = [*kinds, *OFTEN]


def _target(kind: Kind, targets: Targets, rng: random.Random) -> str:
    match kind:
        case Kind.CUT:
            return rng.choice(targets.lines)
        case Kind.HELD:
            return rng.choice(targets.agent_lines)
        case Kind.AGENT_KILLED | Kind.AGENT_SUSPENDED:
            return rng.choice(targets.agents)
        case _:
            return ""
