"""Aggregation that a few wrong or malicious agents of a round cannot ruin, at the price of keeping all its updates.

Every update has one vote here, whatever its agent says about how many examples it has: a claim of two billion would
otherwise be an attack of its own. The result does not depend on the order of arrival, as updates are sorted by their
content first, so that even rounding and ties are the same. Integer tensors (counters) get their lower median.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coordinator.aggregation import BLOCK_ELEMENTS, INT64_MAX, Inspection, distance, inspect
from schemas.errors import PayloadError, Reason
from schemas.weights import Array, Weights, check_structure, digest

Vector = npt.NDArray[np.float64]
Rule = Callable[[Sequence[Weights], Weights], dict[str, Array]]
"""(updates in order of their content, the round's model) -> the aggregate."""


class RobustAggregate:
    """A round's updates, kept until all are there.

    Args:
        reference: the round's model.
        rule: what becomes of the updates.
        max_updates: how many are kept at most.
    """

    def __init__(self, reference: Weights, rule: Rule, max_updates: int) -> None:
        self._reference = reference
        self._rule = rule
        self._max_updates = max_updates
        self._updates: list[Weights] = []
        self._num_examples = 0

    @property
    def num_examples(self) -> int:
        """The sum of what the updates' agents say they have."""
        return self._num_examples

    @property
    def num_updates(self) -> int:
        """How many are kept."""
        return len(self._updates)

    def add(self, weights: Weights, num_examples: int, inspection: Inspection | None = None) -> None:
        """Keep one update, or refuse it and change nothing.

        Raises:
            PayloadError: wrong-names, wrong-shape, wrong-dtype, wrong-examples, non-finite, or too-large when as many
                are kept as memory was set aside for.
            ValueError: the inspection is of other weights.
        """
        if not 0 < num_examples <= INT64_MAX - self._num_examples:
            raise PayloadError(Reason.WRONG_EXAMPLES, f"an update of {num_examples} examples")
        if inspection is None:
            inspection = inspect(weights, self._reference)
        elif inspection.weights is not weights:
            raise ValueError("the inspection is of other weights than those to be added")
        check_structure(weights, self._reference)
        if not inspection.finite:
            raise PayloadError(Reason.NON_FINITE, "some values are infinite or not numbers")
        if self.num_updates >= self._max_updates:
            raise PayloadError(Reason.TOO_LARGE, f"{self._max_updates} updates are kept, which is all that fits")
        self._updates.append(weights)
        self._num_examples += num_examples

    def result(self) -> dict[str, Array]:
        """The aggregate, in the reference's order, shapes and dtypes.

        Raises:
            ValueError: nothing was added yet.
        """
        if not self._updates:
            raise ValueError("no update was added: there is no aggregate")
        return self._rule(sorted(self._updates, key=digest), self._reference)


def median(updates: Sequence[Weights], reference: Weights) -> dict[str, Array]:
    """Each coordinate's median; of an even number, the mean of the two in the middle.

    Yin, Chen, Ramchandran, Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", ICML
    2018, Definition 1 and Algorithm 1, option I.
    """
    return _by_coordinate(updates, reference, (len(updates) - 1) // 2)


@dataclass(frozen=True, slots=True)
class TrimmedMean:
    """Each coordinate's mean without its smallest and largest values: Yin et al. 2018, Definition 2, option II.

    Attributes:
        attackers: b = beta m, how many are left out at either end; of so few updates that nothing would remain, the
            median is taken.
    """

    attackers: int

    def __call__(self, updates: Sequence[Weights], reference: Weights) -> dict[str, Array]:
        """The trimmed mean of the updates."""
        return _by_coordinate(updates, reference, min(self.attackers, (len(updates) - 1) // 2))


@dataclass(frozen=True, slots=True)
class Krum:
    """The mean of those updates that have the closest neighbours.

    Blanchard, El Mhamdi, Guerraoui, Stainer, "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
    NeurIPS 2017, section 4: s(i) is the sum of the squared distances from V_i to its n - f - 2 closest, and Krum is the
    V_i of the smallest score. Multi-Krum (their section 6) is the mean of the m with the smallest, here m = n - f. Of
    equal scores the one whose content's hash is smaller wins. They ask for n >= 2 f + 3.

    Attributes:
        attackers: f.
        many: multi-Krum.
    """

    attackers: int
    many: bool = False

    def __call__(self, updates: Sequence[Weights], reference: Weights) -> dict[str, Array]:
        """The chosen update, or the mean of the chosen ones."""
        scores = self.scores(updates)
        best = sorted(range(len(updates)), key=scores.__getitem__)
        num_kept = max(1, len(updates) - self.attackers) if self.many else 1
        kept = [updates[index] for index in sorted(best[:num_kept])]
        return _combined(kept, reference, _mean_of_rows)

    def scores(self, updates: Sequence[Weights]) -> list[float]:
        """s(i) of each update; with too few of them, each is judged by its closest one alone."""
        neighbours = max(1, len(updates) - self.attackers - 2)
        squared: dict[tuple[int, int], float] = {}
        for i, one in enumerate(updates):
            for j in range(i + 1, len(updates)):
                squared[i, j] = squared[j, i] = distance(one, updates[j]) ** 2
        others = [sorted(squared[i, j] for j in range(len(updates)) if j != i) for i in range(len(updates))]
        return [sum(found[:neighbours]) for found in others]


@dataclass(frozen=True, slots=True)
class NormClipping:
    """The mean of the updates, each drawn so near to the model that its distance is at most M.

    Sun, Kairouz, Suresh, McMahan, "Can You Really Backdoor Federated Learning?", 2019, arXiv:1911.07963, section 4:
    w + mean of d_k / max(1, |d_k| / M), with d_k = w_k - w.

    Attributes:
        max_norm: M; None takes the lower median of the round's own distances, so that it never needs tuning.
    """

    max_norm: float | None = None

    def __call__(self, updates: Sequence[Weights], reference: Weights) -> dict[str, Array]:
        """The mean of the clipped updates."""
        norms = [_norm(update, reference) for update in updates]
        most = self.max_norm if self.max_norm is not None else sorted(norms)[(len(norms) - 1) // 2]
        shares = [1.0 if norm <= most else most / norm for norm in norms]

        def clipped_mean(rows: Array, base: Array) -> Vector:
            start = base.astype(np.float64)
            return start + _mean_of_rows([share * (row - start) for share, row in zip(shares, rows, strict=True)])

        return _combined(updates, reference, clipped_mean)


def _by_coordinate(updates: Sequence[Weights], reference: Weights, trimmed: int) -> dict[str, Array]:
    """Each coordinate's mean without its `trimmed` smallest and largest values."""

    def mean_inside(rows: Array, _base: Array) -> Vector:
        # Adding 0 turns -0 into 0: which of the two sorts first, nobody promises.
        ordered = np.sort(rows + rows.dtype.type(0), axis=0)
        return _mean_of_rows(ordered[trimmed : len(ordered) - trimmed])

    return _combined(updates, reference, mean_inside)


def _combined(
    updates: Sequence[Weights], reference: Weights, combine: Callable[[Array, Array], Vector]
) -> dict[str, Array]:
    """The tensors, each put together in blocks, so that what is needed besides the updates stays small.

    Args:
        combine: (a row for each update, the model's part) -> what they come to, for floating-point tensors.
    """
    return {name: _tensor([update[name] for update in updates], base, combine) for name, base in reference.items()}


def _tensor(arrays: Sequence[Array], base: Array, combine: Callable[[Array, Array], Vector]) -> Array:
    flat = [array.reshape(-1) for array in arrays]
    start, out = base.reshape(-1), np.empty(base.size, base.dtype)
    for block in _blocks(base.size):
        rows = np.stack([array[block] for array in flat])
        if base.dtype.kind == "f":
            out[block] = combine(rows, start[block])
        else:
            out[block] = np.sort(rows, axis=0)[(len(rows) - 1) // 2]
    return out.reshape(base.shape)


def _mean_of_rows(rows: Sequence[Array] | Array, _base: Array | None = None) -> Vector:
    """Row by row in float64, so that the order of additions is the same everywhere."""
    total: Vector = np.zeros(rows[0].shape, np.float64)
    for row in rows:
        total += row
    total /= len(rows)
    return total


def _norm(update: Weights, reference: Weights) -> float:
    """|update - reference|, from an exact sum, as it becomes part of the model: the same bits on every machine."""
    floats = [
        (update[name].reshape(-1), base.reshape(-1)) for name, base in reference.items() if base.dtype.kind == "f"
    ]
    steps = (array[block].astype(np.float64) - base[block] for array, base in floats for block in _blocks(base.size))
    return math.sqrt(math.fsum(square for step in steps for square in (step * step).tolist()))


def _blocks(size: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK_ELEMENTS) for start in range(0, size, BLOCK_ELEMENTS))


RULES: Mapping[str, Callable[[int, float | None], Rule]] = {
    "krum": lambda attackers, _norm: Krum(attackers),
    "median": lambda _attackers, _norm: median,
    "multi-krum": lambda attackers, _norm: Krum(attackers, many=True),
    "norm-clipping": lambda _attackers, max_norm: NormClipping(max_norm),
    "trimmed-mean": lambda attackers, _norm: TrimmedMean(attackers),
}
"""Every rule, made from how many attackers it is to withstand and from the largest norm."""


def fewest_updates(rule: str, attackers: int) -> int:
    """With how many updates in a round the rule withstands so many attackers; 1 for what withstands none."""
    if rule not in RULES:
        return 1
    return 2 * attackers + (3 if rule in ("krum", "multi-krum") else 1)
