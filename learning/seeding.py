"""Random streams from stable names and numbers, so that a restart or another machine draws the same again.

The only source of randomness in this package: nothing here reads or moves NumPy's or Python's global state.
"""

import hashlib
import json

import numpy as np


def stable_seed(*parts: str | int) -> int:
    """A 256-bit integer that depends on the parts and their order alone (unlike Python's `hash`).

    Parts are told apart: `("a", 12)` and `("a1", 2)` give unrelated seeds, as do 1 and "1". Begin with a word
    for the purpose, so that two uses of the same run seed never share a stream.
    """
    text = json.dumps(parts, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "little")


def generator(*parts: str | int) -> np.random.Generator:
    """An independent NumPy generator for these parts (see `stable_seed`)."""
    return np.random.Generator(_bits(*parts))


def permutation(length: int, *parts: str | int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """A random order of `range(length)` as int64[length].

    Sorts raw 64-bit draws: NumPy promises that those stay the same from version to version, which it does not
    for `Generator.permutation`, and a Pi may be upgraded in the middle of a run.
    """
    keys = _bits(*parts).random_raw(length)
    return np.argsort(keys, kind="stable").astype(np.int64, copy=False)


def raw_draws(count: int, *parts: str | int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Raw 64-bit draws as uint64[count], the same in every version of NumPy and on every machine."""
    return _bits(*parts).random_raw(count)


def _bits(*parts: str | int) -> np.random.PCG64:
    return np.random.PCG64(np.random.SeedSequence(stable_seed(*parts)))
