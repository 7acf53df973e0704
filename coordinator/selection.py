"""Choose a round's agents from (seed, round) alone, so that a resumed run selects as the undisturbed one would."""

import math
from collections.abc import Collection, Sequence

import numpy as np


def select(
    eligible: Sequence[str],
    required: Collection[str],
    fraction: float,
    at_least: int,
    seed: int,
    round_number: int,
) -> list[str]:
    """The agents of one round, sorted: `fraction` of the eligible ones, but at least `at_least` and all required.

    McMahan et al. 2017, Algorithm 1: S_t is a random set of max(C K, 1) clients.
    """
    wanted = min(len(eligible), max(math.ceil(fraction * len(eligible)), at_least, 1))
    chosen = {agent_id for agent_id in eligible if agent_id in required}
    others = sorted(set(eligible) - chosen)
    count = max(0, min(wanted - len(chosen), len(others)))
    if count < len(others):
        rng = np.random.default_rng(np.random.SeedSequence([seed, round_number, 0x5E1EC7]))
        chosen.update(others[i] for i in rng.choice(len(others), size=count, replace=False))
    else:
        chosen.update(others)
    return sorted(chosen)
