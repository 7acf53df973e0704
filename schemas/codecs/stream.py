"""Entropy coding by DEFLATE (RFC 1951), and its reversal with a limit that holds while decompressing."""

import zlib

import numpy as np
import numpy.typing as npt

from schemas.errors import PayloadError, Reason

Bytes = npt.NDArray[np.uint8]

RAW = -15
"""A bare DEFLATE stream: zlib's header and checksum would be 6 bytes in a message of a thousand."""

MEMORY_LEVEL = 9

MATCHES, RUNS, NO_MATCHES = (4, zlib.Z_FILTERED), (6, zlib.Z_RLE), (6, zlib.Z_HUFFMAN_ONLY)
"""Compression levels and strategies; any DEFLATE stream decodes alike. Which gives least depends on the data: matches
where the same features are silent in row after row, runs or nothing at all where they are not."""


def deflate(*parts: bytes, floats: bool = False) -> Bytes:
    """The shortest of several DEFLATE streams of the joined parts, one or two.

    Two parts (codes and positions) are tried with common and with separate code tables.

    Args:
        floats: the codes are floating-point numbers. Looking for matches in mantissas takes four times as long as
            all the rest and finds none.
    """
    if floats:
        settings: tuple[tuple[int, int], ...] = (RUNS,)
    else:
        settings = (MATCHES, RUNS) if len(parts) == 1 else (MATCHES, RUNS, NO_MATCHES)
    ways = (parts,) if len(parts) == 1 else ((b"".join(parts),), parts)
    return np.frombuffer(min((_deflate(way, *setting) for setting in settings for way in ways), key=len), np.uint8)


def inflate(stream: Bytes, max_bytes: int) -> Bytes:
    """The bytes in a stream, of which never more than `max_bytes` + 1 are made.

    Raises:
        PayloadError: malformed, or too-large when there would be more than `max_bytes`.
    """
    inflater = zlib.decompressobj(RAW)
    try:
        plain = inflater.decompress(stream.tobytes(), max_bytes + 1)
    except zlib.error as error:
        raise PayloadError(Reason.MALFORMED, f"the codes are not a DEFLATE stream: {error}") from error
    if len(plain) > max_bytes:
        raise PayloadError(Reason.TOO_LARGE, f"the codes decompress to more than {max_bytes} bytes")
    if not inflater.eof or inflater.unused_data:
        raise PayloadError(Reason.MALFORMED, "the DEFLATE stream is cut off, or bytes follow it")
    return np.frombuffer(plain, np.uint8)


def _deflate(parts: tuple[bytes, ...], level: int, strategy: int) -> bytes:
    deflater = zlib.compressobj(level, zlib.DEFLATED, RAW, MEMORY_LEVEL, strategy)
    pieces = [deflater.compress(parts[0])]
    for part in parts[1:]:
        pieces += [deflater.flush(zlib.Z_BLOCK), deflater.compress(part)]
    return b"".join([*pieces, deflater.flush()])
