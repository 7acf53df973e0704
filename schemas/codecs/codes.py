"""The written form of the codes: numbers to bytes and back, one rule for each kind."""

import numpy as np
import numpy.typing as npt

from schemas.codecs.spec import Kind
from schemas.errors import PayloadError, Reason
from schemas.weights import Array

Bytes = npt.NDArray[np.uint8]

LARGEST = {Kind.INT8: 127, Kind.INT4: 7, Kind.TERNARY: 1}
"""The largest code of each integer kind."""


def num_bytes(kind: Kind, count: int) -> int:
    """The size of so many codes."""
    bits = {Kind.FP32: 32, Kind.FP16: 16, Kind.INT8: 8, Kind.INT4: 4, Kind.TERNARY: 1}[kind]
    return (count * bits + 7) // 8


def write(kind: Kind, codes: Array) -> Bytes:
    """The codes as bytes: int8 for integer kinds (ternary without zeros), float16 and float32 as such."""
    match kind:
        case Kind.INT8:
            return np.frombuffer(codes.tobytes(), np.uint8)
        case Kind.INT4:
            nibbles = np.zeros(codes.size + codes.size % 2, np.uint8)
            nibbles[: codes.size] = codes.view(np.uint8) & 15
            return nibbles[::2] * np.uint8(16) + nibbles[1::2]
        case Kind.TERNARY:
            return np.packbits(codes < 0)
        case Kind.FP16 | Kind.FP32:
            # One plane for each byte of the numbers, highest first: exponents repeat, mantissas do not.
            width = codes.dtype.itemsize
            return codes.astype(f">f{width}").view(np.uint8).reshape(-1, width).T.reshape(-1)


def read(kind: Kind, data: Bytes, count: int) -> Array:
    """The codes from bytes, of which there are exactly `num_bytes`.

    Raises:
        PayloadError: malformed; non-finite for float16 and float32.
    """
    match kind:
        case Kind.INT8:
            codes: Array = data.view(np.int8)
            _require(not (data == 0x80).any(), "the int8 code -128 is not used")
        case Kind.INT4:
            nibbles = np.stack((data >> 4, data & 15), axis=1).reshape(-1)
            _require(not nibbles[count:].any(), "the bits after the last int4 code are not zero")
            _require(not (nibbles == 8).any(), "the int4 code -8 is not used")
            codes = (nibbles[:count] ^ 8).view(np.int8) - np.int8(8)
        case Kind.TERNARY:
            bits = np.unpackbits(data)
            _require(not bits[count:].any(), "the bits after the last sign are not zero")
            codes = np.int8(1) - 2 * bits[:count].view(np.int8)
        case Kind.FP16 | Kind.FP32:
            width = 2 if kind is Kind.FP16 else 4
            planes = np.ascontiguousarray(data.reshape(width, count).T)
            codes = planes.reshape(-1).view(f">f{width}").astype(f"=f{width}")
            if not np.isfinite(codes).all():
                raise PayloadError(Reason.NON_FINITE, f"some {kind} codes are infinite or not numbers")
    return codes


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise PayloadError(Reason.MALFORMED, otherwise)
