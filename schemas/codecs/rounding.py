"""Rounding to a codec's numbers: to the nearest, or up and down at random with the right expectation."""

import hashlib

import numpy as np
import numpy.typing as npt

from schemas.codecs.blocks import FloatVector

Generator = np.random.Generator

LARGEST_FLOAT16 = np.float32(2.0**15 - 2.0**4)
"""The float16 below 2**15. Times the largest scale, 2**113, it is still a float32, which 2**15 is not."""


def rounding_generator(seed: int, round_number: int, party: str) -> Generator:
    """The random numbers with which a party rounds in one round: the same again when the round is repeated."""
    digest = hashlib.sha256(f"rounding|{seed}|{round_number}|{party}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def to_integers(ratios: FloatVector, largest: int, generator: Generator | None) -> npt.NDArray[np.int8]:
    """The ratios as integers from -largest to largest; with a generator, floor(ratio + u), u uniform in [0, 1)."""
    rounded = np.rint(ratios) if generator is None else np.floor(ratios + generator.random(ratios.size, np.float32))
    np.clip(rounded, -largest, largest, out=rounded)
    return rounded.astype(np.int8)


def to_float16(ratios: FloatVector, generator: Generator | None) -> npt.NDArray[np.float16]:
    """The ratios, which are below 2**15, as float16 below 2**15; with a generator, either neighbour at random."""
    ratios = np.clip(ratios, -LARGEST_FLOAT16, LARGEST_FLOAT16)
    nearest = ratios.astype(np.float16)
    if generator is None:
        return nearest
    error = ratios - nearest.astype(np.float32)
    towards = np.where(error > 0, np.float16(np.inf), np.float16(-np.inf))
    other = np.nextafter(nearest, towards)
    step = np.abs(other.astype(np.float32) - nearest.astype(np.float32))
    moved = generator.random(ratios.size, np.float32) * step < np.abs(error)
    return np.where(moved, other, nearest)
