"""Divides a data set among agents: for simulations, and for filling the Pis' data folders beforehand.

Decides which examples go where and touches no files; see `learning.folders` for writing them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from learning.seeding import generator, permutation
from schemas.errors import ConfigError

Scheme = Literal["iid", "digit-pairs", "dirichlet"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)

Indices = npt.NDArray[np.int64]


def partition(
    labels: npt.NDArray[np.int64], num_agents: int, scheme: str, seed: int, alpha: float = 0.5
) -> list[Indices]:
    """Which examples each agent gets: one sorted int64 array per agent, disjoint, none empty, covering all.

    - `iid`: shuffled and dealt out; sizes differ by at most one.
    - `digit-pairs`: the classes present are taken in pairs (0 and 1, 2 and 3, ...), as in the reference study, where
      each of five agents holds one pair of digits. With fewer agents than pairs, pairs are dealt out in turn and an
      agent holds several; with more agents than pairs, agents take pairs in turn and those of one pair share its
      shuffled examples equally. With an odd number of classes the last one stands alone.
    - `dirichlet`: each class is divided in proportions drawn from a symmetric Dirichlet distribution with
      concentration `alpha` (Hsu et al. 2019, "Measuring the Effects of Non-Identical Data Distribution"): 100 is
      nearly IID, 0.1 gives most agents a class or two. An agent left with nothing gets one example of the largest.

    Raises:
        ConfigError: unknown scheme, `alpha` or `num_agents` not positive, or too few examples to give each agent one.
    """
    divide = _divide_by(scheme, alpha)
    if num_agents < 1:
        raise ConfigError(f"cannot divide a data set among {num_agents} agents")
    if num_agents > len(labels):
        raise ConfigError(f"cannot divide {len(labels)} examples among {num_agents} agents: each needs one")
    return [np.sort(part) for part in divide(labels, num_agents, seed)]


Divide = Callable[[npt.NDArray[np.int64], int, int], Sequence[Indices]]


def _divide_by(scheme: str, alpha: float) -> Divide:
    if scheme == "iid":
        return _iid
    if scheme == "digit-pairs":
        return _class_pairs
    if scheme == "dirichlet":
        if not alpha > 0:
            raise ConfigError(f"the Dirichlet concentration alpha must be above 0, not {alpha}")
        return partial(_dirichlet, alpha=alpha)
    raise ConfigError(f"unknown partition {scheme!r}: expected one of {', '.join(SCHEMES)}")


def _iid(labels: npt.NDArray[np.int64], num_agents: int, seed: int) -> list[Indices]:
    return np.array_split(permutation(len(labels), "partition-iid", seed), num_agents)


def _class_pairs(labels: npt.NDArray[np.int64], num_agents: int, seed: int) -> list[Indices]:
    classes = np.unique(labels)
    pairs = [classes[i : i + 2] for i in range(0, len(classes), 2)]
    shards: list[list[Indices]] = [[] for _ in range(num_agents)]
    for number, pair in enumerate(pairs):
        few = num_agents < len(pairs)
        holders = [number % num_agents] if few else list(range(number, num_agents, len(pairs)))
        members = np.flatnonzero(np.isin(labels, pair))
        if len(members) < len(holders):
            raise ConfigError(
                f"cannot divide the {len(members)} examples of classes {pair.tolist()} among {len(holders)} agents"
            )
        order = permutation(len(members), "partition-pairs", seed, number)
        for holder, shard in zip(holders, np.array_split(members[order], len(holders)), strict=True):
            shards[holder].append(shard)
    return [np.concatenate(parts) for parts in shards]


def _dirichlet(labels: npt.NDArray[np.int64], num_agents: int, seed: int, *, alpha: float) -> list[Indices]:
    random = generator("partition-dirichlet", seed)
    shards: list[list[Indices]] = [[] for _ in range(num_agents)]
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        members = members[permutation(len(members), "partition-dirichlet", seed, int(label))]
        shares = random.dirichlet(np.full(num_agents, alpha))
        cuts = np.rint(np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
        for parts, shard in zip(shards, np.split(members, cuts), strict=True):
            parts.append(shard)
    return _without_empty([np.concatenate(parts) for parts in shards])


def _without_empty(parts: list[Indices]) -> list[Indices]:
    for i, part in enumerate(parts):
        if len(part) == 0:
            largest = max(range(len(parts)), key=lambda j: len(parts[j]))
            parts[i], parts[largest] = parts[largest][:1], parts[largest][1:]
    return parts
