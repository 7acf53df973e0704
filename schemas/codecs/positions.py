"""Which values of the vector are written: as one bit each, or as the number of values skipped in between."""

import numpy as np
import numpy.typing as npt

from schemas.errors import PayloadError, Reason

Bytes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]

BITMAP_FROM = 16
"""Where at least one value in 16 is kept, bits are shorter (measured on the updates of a CNN)."""

MORE = 255
"""A skip byte that stands for 255 values and no kept one."""


def max_bytes(num_values: int) -> int:
    """The largest size that positions among so many values have."""
    return max(_bitmap_bytes(num_values), num_values // BITMAP_FROM + num_values // MORE)


def write(positions: Positions, num_values: int) -> Bytes:
    """The positions, which ascend, as bytes."""
    if _as_bitmap(positions.size, num_values):
        kept = np.zeros(num_values, np.bool_)
        kept[positions] = True
        return np.packbits(kept)
    skips = np.diff(positions, prepend=-1) - 1
    mores = skips // MORE
    written = np.full(positions.size + int(mores.sum()), MORE, np.uint8)
    written[np.cumsum(mores + 1) - 1] = skips % MORE
    return written


def read(data: Bytes, count: int, num_values: int) -> Positions:
    """The `count` positions from bytes.

    Raises:
        PayloadError: malformed.
    """
    if _as_bitmap(count, num_values):
        if data.size != _bitmap_bytes(num_values):
            raise PayloadError(Reason.MALFORMED, "the bitmap of positions has the wrong size")
        found = np.flatnonzero(np.unpackbits(data))
    else:
        if data.size and data[-1] == MORE:
            raise PayloadError(Reason.MALFORMED, "the last skip does not end")
        last = np.flatnonzero(data != MORE)
        found = np.cumsum(data, dtype=np.int64)[last] + np.arange(last.size)
    if found.size != count or (count and found[-1] >= num_values):
        raise PayloadError(Reason.MALFORMED, f"{found.size} positions where {count} of {num_values} were declared")
    return found


def _as_bitmap(count: int, num_values: int) -> bool:
    return count * BITMAP_FROM >= num_values


def _bitmap_bytes(num_values: int) -> int:
    return (num_values + 7) // 8
