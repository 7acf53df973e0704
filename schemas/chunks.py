"""Blobs that are too large for one comfortable packet: cut into chunks, fetched by the receiver, put together.

The receiver drives: it knows size and hash, asks for a few chunks at a time, and after any loss or reconnect
asks only for what is missing. Memory is the blob itself plus the chunks on their way.
"""

import hashlib
import math

import numpy as np

from schemas import wire
from schemas.errors import PayloadError, Reason
from schemas.messages import ChunkHeader
from schemas.weights import decode, encode

WINDOW_CHUNKS = 4
"""How many chunks a receiver asks for at a time."""

CHUNK_TENSOR = "chunk"


def num_chunks(size_bytes: int, chunk_bytes: int) -> int:
    """How many chunks a blob of this size travels in."""
    return math.ceil(size_bytes / chunk_bytes)


def cut(blob: bytes | memoryview, blob_sha256: str, chunk_bytes: int, index: int, minor: int) -> bytes:
    """Chunk `index` of a blob as a message: a safetensors file with one uint8 tensor."""
    piece = memoryview(blob)[index * chunk_bytes : (index + 1) * chunk_bytes]
    header = wire.encode(ChunkHeader(blob_sha256=blob_sha256, index=index), minor)
    return encode({CHUNK_TENSOR: np.frombuffer(piece, np.uint8)}, header)


class Assembly:
    """A blob being put together from its chunks; adding a chunk twice is harmless.

    Args:
        size_bytes: of the whole blob; the caller has checked it against its limit.
        chunk_bytes: of every chunk but the last.
        sha256: of the whole blob.
    """

    def __init__(self, size_bytes: int, chunk_bytes: int, sha256: str) -> None:
        self.sha256 = sha256
        self._chunk_bytes = chunk_bytes
        self._buffer = bytearray(size_bytes)
        self._missing = set(range(num_chunks(size_bytes, chunk_bytes)))

    @property
    def complete(self) -> bool:
        """True when every chunk is there."""
        return not self._missing

    def next_wanted(self, window: int = WINDOW_CHUNKS) -> tuple[int, int]:
        """The first run of missing chunks, as (first, count) with count at most `window`; (0, 0) when complete."""
        if not self._missing:
            return 0, 0
        first = min(self._missing)
        count = 1
        while count < window and first + count in self._missing:
            count += 1
        return first, count

    def add(self, payload: bytes | memoryview, index: int) -> None:
        """Put the chunk that came on the topic of `index` into its place.

        Raises:
            PayloadError: malformed, wrong-digest (it belongs to another blob) or wrong-shape.
        """
        head, tensors = decode(payload)
        header = wire.decode(head, ChunkHeader).message
        if header.blob_sha256 != self.sha256:
            raise PayloadError(Reason.WRONG_DIGEST, "the chunk belongs to another blob")
        if header.index != index or tensors.keys() != {CHUNK_TENSOR}:
            raise PayloadError(Reason.MALFORMED, f"not chunk {index} in one tensor named {CHUNK_TENSOR!r}")
        begin = index * self._chunk_bytes
        expected = min(self._chunk_bytes, len(self._buffer) - begin)
        chunk = tensors[CHUNK_TENSOR]
        if chunk.dtype != np.uint8 or chunk.shape != (expected,):
            raise PayloadError(Reason.WRONG_SHAPE, f"chunk {index} is not uint8[{expected}]")
        self._buffer[begin : begin + expected] = chunk.data
        self._missing.discard(index)

    def blob(self) -> memoryview:
        """The whole blob.

        Raises:
            PayloadError: wrong-digest; the assembly then starts anew, as it cannot tell which chunk was wrong.
        """
        if hashlib.sha256(self._buffer).hexdigest() != self.sha256:
            self._missing = set(range(num_chunks(len(self._buffer), self._chunk_bytes)))
            raise PayloadError(Reason.WRONG_DIGEST, "the assembled blob does not have the announced hash")
        return memoryview(self._buffer).toreadonly()
