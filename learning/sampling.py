"""The endless shuffled stream of training examples that an agent walks along, round after round.

Every batch is a function of its number, so an agent that restarts goes on exactly where it stopped and needs to
store nothing but how many batches it has trained on.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from learning.seeding import permutation

Indices = npt.NDArray[np.int64]


def batch_indices(num_examples: int, batch_size: int, batch_number: int, seed: int, agent_id: str) -> Indices:
    """Which examples batch `batch_number` (from 0) trains on, as int64[batch_size].

    The stream is epoch after epoch, each a fresh permutation of all examples that depends on
    (seed, agent_id, epoch) alone. Batch b covers stream positions [b*B, (b+1)*B): it may span two epochs (or more,
    when the data set is smaller than a batch), so no example is ever left out of an epoch.

    Raises:
        ValueError: a size is below 1 or the batch number below 0.
    """
    if num_examples < 1 or batch_size < 1 or batch_number < 0:
        raise ValueError(f"no batch {batch_number} of size {batch_size} in {num_examples} examples")
    start = batch_number * batch_size
    stop = start + batch_size
    pieces = []
    for epoch in range(start // num_examples, (stop - 1) // num_examples + 1):
        order = _epoch_order(num_examples, seed, agent_id, epoch)
        offset = epoch * num_examples
        pieces.append(order[max(start - offset, 0) : stop - offset])
    return np.concatenate(pieces)


# A few entries, so that the agents of a simulation in one process do not evict one another's epoch at each turn.
@lru_cache(maxsize=8)
def _epoch_order(num_examples: int, seed: int, agent_id: str, epoch: int) -> Indices:
    order = permutation(num_examples, "epoch", seed, agent_id, epoch)
    order.setflags(write=False)
    return order
