"""How many CPU threads torch computes with: what was asked for, but never more than there are cores.

A thread without a core makes the others wait for it at every step: with four threads on two cores the CNN trains at a
seventh of its speed with two. Last bits depend on the count, so what is recorded is the count in effect.
"""

import logging
import os

log = logging.getLogger(__name__)


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def usable_threads(wanted: int) -> int:
    """The count in effect where `wanted` are asked for."""
    return min(wanted, num_cores())


def use_threads(wanted: int) -> int:
    """Make torch compute with `usable_threads(wanted)`, in this process, and return how many that is.

    Says so in the log when they are fewer, as the operator should correct the setting.
    """
    import torch  # noqa: PLC0415 - seconds to load, and not needed to tell the count

    threads = usable_threads(wanted)
    if threads < wanted:
        log.warning(
            "threads = %d, but this process may use only %d cores: it computes with %d threads; correct the setting",
            wanted,
            threads,
            threads,
        )
    torch.set_num_threads(threads)
    return threads
