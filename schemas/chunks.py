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
from schemas.pacing import WINDOW_CHUNKS
from schemas.topics import MAX_CHUNK_INDEX
from schemas.weights import decode, encode

RETRY_S = 10.0
"""Chunks that were asked for and have not come are asked for again after this time and that of their transfer."""

ASSUMED_BYTES_PER_S = 1_000_000
"""How fast chunks are taken to come before any has; afterwards, four times as long as the last ones took."""

CHUNK_TENSOR = "chunk"

_MAX_DOUBLINGS = 4


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

    Raises:
        PayloadError: too-large, as it would take more chunks than there are numbers for.
    """

    def __init__(self, size_bytes: int, chunk_bytes: int, sha256: str) -> None:
        self.sha256 = sha256
        self._chunk_bytes = chunk_bytes
        self._num_chunks = num_chunks(size_bytes, chunk_bytes)
        if self._num_chunks > MAX_CHUNK_INDEX + 1:
            raise PayloadError(Reason.TOO_LARGE, f"{size_bytes} bytes in chunks of {chunk_bytes}")
        self._buffer = bytearray(size_bytes)
        self._start_over()

    def _start_over(self) -> None:
        self._have = bytearray(self._num_chunks)
        self._num_missing = self._num_chunks

    @property
    def complete(self) -> bool:
        """True when every chunk is there."""
        return self._num_missing == 0

    def has(self, index: int) -> bool:
        """True when this chunk is there."""
        return bool(self._have[index])

    def next_wanted(self, window: int = WINDOW_CHUNKS) -> tuple[int, int]:
        """The first run of missing chunks, as (first, count) with count at most `window`; (0, 0) when complete."""
        first = self._have.find(0)
        if first < 0:
            return 0, 0
        end = self._have.find(1, first, first + window)
        return first, (end if end >= 0 else min(first + window, self._num_chunks)) - first

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
        expected = max(0, min(self._chunk_bytes, len(self._buffer) - begin))
        chunk = tensors[CHUNK_TENSOR]
        if not expected or chunk.dtype != np.uint8 or chunk.shape != (expected,):
            raise PayloadError(Reason.WRONG_SHAPE, f"chunk {index} is not uint8[{expected}]")
        if self._have[index]:
            return
        self._buffer[begin : begin + expected] = chunk.data
        self._have[index] = 1
        self._num_missing -= 1

    def blob(self) -> memoryview:
        """The whole blob, once it is complete.

        Raises:
            PayloadError: wrong-digest; the assembly then starts anew, as it cannot tell which chunk was wrong.
        """
        if hashlib.sha256(self._buffer).hexdigest() != self.sha256:
            self._start_over()
            raise PayloadError(Reason.WRONG_DIGEST, "the assembled blob does not have the announced hash")
        return memoryview(self._buffer).toreadonly()


class Fetch:
    """A blob on its way: which chunks to ask for, and when.

    Asks for one chunk, then two, then four at a time. What does not come is asked for again, after a wait that
    follows the speed of the line and doubles with every question that nothing answered, so that a slow line is not
    filled with repetitions.

    Args:
        size_bytes, chunk_bytes, sha256: as for `Assembly`.

    Attributes:
        due_at_s: when there is something to ask; `-math.inf` at once.
        unanswered: questions in a row that nothing came after.
    """

    def __init__(self, size_bytes: int, chunk_bytes: int, sha256: str) -> None:
        self._assembly = Assembly(size_bytes, chunk_bytes, sha256)
        self.due_at_s = -math.inf
        self.unanswered = 0
        self._chunk_s = chunk_bytes / ASSUMED_BYTES_PER_S
        self._window = 1
        self._awaited: set[int] = set()
        self._num_asked = 0
        self._asked_at_s = 0.0

    @property
    def sha256(self) -> str:
        """Of the whole blob."""
        return self._assembly.sha256

    @property
    def complete(self) -> bool:
        """True when every chunk is there."""
        return self._assembly.complete

    def question(self, now_s: float) -> tuple[int, int] | None:
        """The chunks to ask for now, as (first, count), or None."""
        if self.complete or now_s < self.due_at_s:
            return None
        if self._awaited:
            self.unanswered += 1
            self._window = 1
        else:
            self._asked_at_s = now_s
        first, count = self._assembly.next_wanted(self._window)
        self._awaited = set(range(first, first + count))
        self._num_asked = count
        self.due_at_s = now_s + self._patience_s()
        return first, count

    def ask_again(self) -> None:
        """Whatever was asked for may be lost, as after a reconnect: ask for what is missing at once."""
        self._awaited.clear()
        self._window = 1
        self.due_at_s = -math.inf

    def add(self, payload: bytes | memoryview, index: int, now_s: float) -> None:
        """Take a chunk.

        Raises:
            PayloadError: it is not this chunk of this blob.
        """
        self._assembly.add(payload, index)
        if index not in self._awaited:
            return
        self._awaited.discard(index)
        self.unanswered = 0
        if self._awaited:
            self.due_at_s = now_s + self._patience_s()
        else:
            self._chunk_s = 4 * (now_s - self._asked_at_s) / self._num_asked
            self._window = min(2 * self._window, WINDOW_CHUNKS)
            self.due_at_s = -math.inf

    def blob(self, now_s: float) -> memoryview:
        """The whole blob, once it is complete.

        Raises:
            PayloadError: wrong-digest; everything is fetched again, after a wait.
        """
        try:
            return self._assembly.blob()
        except PayloadError:
            self.ask_again()
            self.unanswered += 1
            self.due_at_s = now_s + self._patience_s()
            raise

    def _patience_s(self) -> float:
        transfer_s = max(1, len(self._awaited)) * self._chunk_s
        return (RETRY_S + transfer_s) * 2.0 ** min(self.unanswered, _MAX_DOUBLINGS)
