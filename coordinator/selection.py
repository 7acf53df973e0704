"""Choose a round's agents from (seed, round) alone, so that a resumed run selects as the undisturbed one would."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from coordinator.rules import RoundRules

Selector = Callable[[Sequence[str], RoundRules, int], list[str]]
"""Chooses a round's agents from the eligible ones, the rules and the round number."""


def select(eligible: Sequence[str], rules: RoundRules, round_number: int) -> list[str]:
    """The agents of one round, sorted: a fraction of the eligible ones, but enough of them and all required.

    McMahan et al. 2017, Algorithm 1: S_t is a random set of max(C K, 1) clients.
    """
    wanted = min(len(eligible), max(math.ceil(rules.fraction * len(eligible)), rules.min_updates, 1))
    chosen = {agent_id for agent_id in eligible if agent_id in rules.required_agents}
    others = sorted(set(eligible) - chosen)
    count = max(0, min(wanted - len(chosen), len(others)))
    if count < len(others):
        rng = np.random.default_rng(np.random.SeedSequence([rules.plan.seed, round_number, 0x5E1EC7]))
        chosen.update(others[i] for i in rng.choice(len(others), size=count, replace=False))
    else:
        chosen.update(others)
    return sorted(chosen)


def at_most(most: int, selector: Selector = select) -> Selector:
    """The agents that `selector` chooses, or as many of them as there is room for: the required ones first."""

    def limited(eligible: Sequence[str], rules: RoundRules, round_number: int) -> list[str]:
        chosen = selector(eligible, rules, round_number)
        if len(chosen) <= most:
            return chosen
        # A fraction of most / len(chosen), rounded up, could be one more.
        return select(chosen, replace(rules, fraction=1 / len(chosen), min_updates=most), round_number)

    return limited
