"""Named arrays as one safetensors blob, and back: strict, size-limited and without copies on reading.

The format is that of the safetensors project (8 bytes of header length, a JSON header, the data), so any tool
opens a saved blob; the property tests hold both directions against the reference library. We read it ourselves
because the library copies every tensor twice and reports no metadata for bytes, and write it ourselves because
its metadata order, and so the blob's hash, differs from call to call. Checking weights against a reference model
is here too; checking who sent them, and when, is the round engine's.
"""

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic_core

from schemas.errors import PayloadError, Reason

Array = npt.NDArray[Any]
Weights = Mapping[str, Array]
"""Tensor name to array, as in a model's state dict."""

METADATA_KEY = "federation"
"""The one metadata key; its value is a `BlobHeader` or `ChunkHeader` as JSON."""

_METADATA_HEAD = f'"__metadata__":{{"{METADATA_KEY}":'.encode()
_METADATA = re.compile(rb"\{" + re.escape(_METADATA_HEAD) + rb'("(?:[^"\\]|\\.)*")\},')
_KNOWN_HEAD_BYTES = 64 * 1024

MAX_HEADER_BYTES = 1024 * 1024
MAX_TENSORS = 10_000
MAX_DIMENSIONS = 16
MAX_ADDRESS = 2**62

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
"""safetensors' names of the dtypes that travel; anything else is refused."""

_NAMES = {dtype: name for name, dtype in DTYPES.items()}

_Structure = tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...]
"""Name, dtype and shape of each tensor."""


class Gathered(dict[str, Array]):
    """Arrays of one dtype that lie one after the other in memory, in the order of their names.

    What is done to every value alike can be done to all at once: a tenth of the calls for a small model.

    Attributes:
        vector: all of them as one.
    """

    def __init__(self, arrays: Mapping[str, Array], vector: Array) -> None:
        super().__init__(arrays)
        self.vector = vector

    def __reduce__(self) -> tuple[type[dict[str, Array]], tuple[dict[str, Array]]]:
        """To another process the arrays go once, and not together."""
        return dict, (dict(self),)


def vector_of(weights: Weights) -> Array | None:
    """All values as one array, in the order of the names; None where they do not lie like that."""
    return weights.vector if isinstance(weights, Gathered) else None


def encode(weights: Weights, header: bytes = b"") -> bytes:
    """One safetensors blob of the arrays, with `header` (JSON) under the one metadata key.

    The same arrays and header always give the same bytes, whatever the order of the mapping or the arrays'
    memory layout. Uses one extra copy of the data: the blob itself.

    Raises:
        ValueError: an array's dtype has no safetensors name (see `DTYPES`).
    """
    return b"".join(segments(weights, header))


def segments(weights: Weights, header: bytes = b"") -> list[bytes | memoryview]:
    """The blob of `encode` in parts, which are views of the arrays: no copy of those that lie in C order.

    Raises:
        ValueError: an array's dtype has no safetensors name (see `DTYPES`).
    """
    # Large items first keeps every array aligned, as the reference implementation does.
    arrays = _as_written(weights, sorted(weights, key=lambda name: (-weights[name].dtype.itemsize, name)))
    described = _describe(_structure(arrays))
    metadata = _METADATA_HEAD + json.dumps(header.decode(), ensure_ascii=False).encode() + b"}" if header else b""
    head = b"{" + metadata + (b"," if metadata and described else b"") + described + b"}"
    head += b" " * (-len(head) % 8)
    data = (array.reshape(-1).view(np.uint8).data for array in arrays.values())
    return [len(head).to_bytes(8, "little"), head, *data]


def decode(blob: bytes | memoryview) -> tuple[bytes, dict[str, Array]]:
    """The header (JSON, empty when there is none) and the arrays, as read-only views into the blob.

    The caller has limited the blob's size; nothing is allocated here beyond the parsed header.

    Raises:
        PayloadError: malformed, too-large (the header) or wrong-dtype.
    """
    view = memoryview(blob).toreadonly()
    if len(view) < 8:
        raise PayloadError(Reason.MALFORMED, f"{len(view)} bytes are too few for a safetensors blob")
    head_bytes = int.from_bytes(view[:8], "little")
    if head_bytes > MAX_HEADER_BYTES:
        raise PayloadError(Reason.TOO_LARGE, f"safetensors header of {head_bytes} bytes declared")
    if 8 + head_bytes > len(view):
        raise PayloadError(Reason.MALFORMED, "the safetensors header is cut off")
    header, layout = _read_head(bytes(view[8 : 8 + head_bytes]))
    return header, _views(layout, view[8 + head_bytes :])


def decode_header(blob: bytes | memoryview) -> bytes:
    """Only the header of a blob, as `decode` gives it."""
    return decode(blob)[0]


def digest(weights: Weights) -> str:
    """SHA-256 of the weights alone, the same however they were encoded.

    Over the tensors in order of their names: name, dtype and shape as UTF-8 text `name|F32|16,1,4,4` and a
    newline, then the data, little-endian in C order.
    """
    arrays = _as_written(weights, sorted(weights))
    sha = hashlib.sha256()
    for title, array in zip(_titles(_structure(arrays)), arrays.values(), strict=True):
        sha.update(title)
        sha.update(array.data)
    return sha.hexdigest()


def prefix(sha256: str) -> str:
    """The first digits of a digest: enough to tell a run's models apart, too few to prove one."""
    return sha256[:16]


def check_structure(weights: Weights, reference: Weights) -> None:
    """Refuse weights whose names, shapes or dtypes differ from the reference model's.

    Raises:
        PayloadError: wrong-names, wrong-shape or wrong-dtype.
    """
    if weights.keys() != reference.keys():
        missing = sorted(reference.keys() - weights.keys())[:3]
        extra = sorted(weights.keys() - reference.keys())[:3]
        raise PayloadError(Reason.WRONG_NAMES, f"missing tensors {missing}, unknown tensors {extra}"[:300])
    for name, expected in reference.items():
        array = weights[name]
        if array.shape != expected.shape:
            raise PayloadError(Reason.WRONG_SHAPE, f"{name}: {array.shape}, expected {expected.shape}"[:300])
        if array.dtype != expected.dtype:
            raise PayloadError(Reason.WRONG_DTYPE, f"{name}: {array.dtype}, expected {expected.dtype}"[:300])


def _structure(arrays: Weights) -> _Structure:
    return tuple([(name, array.dtype, array.shape) for name, array in arrays.items()])


@lru_cache(maxsize=16)
def _titles(tensors: _Structure) -> tuple[bytes, ...]:
    """What `digest` puts before each tensor's data. A run has one model, so this is always the same."""
    return tuple(
        f"{name}|{_dtype_name(name, dtype)}|{','.join(map(str, shape))}\n".encode() for name, dtype, shape in tensors
    )


@lru_cache(maxsize=16)
def _describe(tensors: _Structure) -> bytes:
    """The tensors' members of a header, in the order of the data."""
    entries: dict[str, Any] = {}
    offset = 0
    for name, dtype, shape in tensors:
        end = offset + math.prod(shape) * dtype.itemsize
        entries[name] = {"dtype": _dtype_name(name, dtype), "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    return json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()[1:-1]


def _as_written(weights: Weights, names: list[str]) -> dict[str, Array]:
    """These arrays, little-endian and in C order: themselves where they are already."""
    arrays = {}
    for name in names:
        array = weights[name]
        if not array.flags.c_contiguous or array.dtype not in _NAMES:
            # Not ascontiguousarray, which would turn 0-d counters into 1-d ones.
            array = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
        arrays[name] = array
    return arrays


def _dtype_name(name: str, dtype: np.dtype[Any]) -> str:
    try:
        return _NAMES[dtype]
    except KeyError:
        raise ValueError(f"tensor {name!r} has dtype {dtype}, which safetensors cannot carry here") from None


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where in the data which tensor lies, without gaps and overlaps; `num_bytes` long.

    Attributes:
        one_dtype: that of all tensors, when they lie in the order of their names; otherwise None.
    """

    places: tuple[tuple[str, np.dtype[Any], tuple[int, ...], int, int], ...]
    num_bytes: int
    one_dtype: np.dtype[Any] | None


def _read_head(head: bytes) -> tuple[bytes, _Layout]:
    """Our header and the tensors' layout.

    All updates of a run have the same layout, which is known after the first. That is only looked for where our own
    metadata comes first, as it does in what we write, and only in what is valid without it.
    """
    own = _METADATA.match(head) if len(head) <= _KNOWN_HEAD_BYTES else None
    if own is not None:
        with contextlib.suppress(ValueError, PayloadError):
            text: str = pydantic_core.from_json(own[1])
            return text.encode("utf-8", "replace"), _known_layout(head[own.end() :])
    entries = _parse_head(head)
    header = _metadata(entries.pop("__metadata__", None))
    return header, _layout_of(entries)


@lru_cache(maxsize=64)
def _known_layout(rest: bytes) -> _Layout:
    """The layout in a header without the brace at its beginning and its metadata; ValueError if it is none."""
    entries = _parse_head(b"{" + rest)
    if not entries or "__metadata__" in entries:
        raise ValueError("not the rest of a header")
    return _layout_of(entries)


def _parse_head(head: bytes) -> dict[str, Any]:
    try:
        entries = pydantic_core.from_json(head, allow_inf_nan=False)
    except ValueError as error:
        raise PayloadError(Reason.MALFORMED, f"safetensors header is not JSON: {error}"[:300]) from error
    if not isinstance(entries, dict):
        raise PayloadError(Reason.MALFORMED, "safetensors header is not an object")
    if len(entries) > MAX_TENSORS:
        raise PayloadError(Reason.TOO_LARGE, f"{len(entries)} tensors, at most {MAX_TENSORS} are read")
    return entries


def _metadata(metadata: object) -> bytes:
    if metadata is None:
        return b""
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise PayloadError(Reason.MALFORMED, "safetensors metadata is not a map of strings")
    header: str = metadata.get(METADATA_KEY, "")
    return header.encode("utf-8", "replace")


def _layout_of(entries: dict[str, Any]) -> _Layout:
    places = tuple((name, *_entry(name, entry)) for name, entry in entries.items())
    covered = 0
    for begin, end in sorted(place[3:] for place in places):
        if begin != covered:
            raise PayloadError(Reason.MALFORMED, "safetensors data has a gap or an overlap")
        covered = end
    dtypes = {place[1] for place in places}
    in_order = [place[0] for place in sorted(places, key=lambda place: place[3:])] == sorted(entries)
    return _Layout(places, covered, dtypes.pop() if len(dtypes) == 1 and in_order else None)


def _views(layout: _Layout, data: memoryview) -> dict[str, Array]:
    if layout.num_bytes > len(data):
        beyond = next(name for name, _, _, _, end in layout.places if end > len(data))
        raise PayloadError(Reason.MALFORMED, f"tensor {beyond!r} lies beyond the end of the blob"[:300])
    if layout.num_bytes < len(data):
        raise PayloadError(Reason.MALFORMED, f"{len(data) - layout.num_bytes} bytes belong to no tensor")
    if layout.one_dtype is None:
        return {
            name: np.frombuffer(data[begin:end], dtype=dtype).reshape(shape)
            for name, dtype, shape, begin, end in layout.places
        }
    vector, size = np.frombuffer(data, dtype=layout.one_dtype), layout.one_dtype.itemsize
    arrays = {name: vector[begin // size : end // size].reshape(shape) for name, _, shape, begin, end in layout.places}
    return Gathered(arrays, vector)


def _entry(name: str, entry: object) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise PayloadError(Reason.MALFORMED, f"tensor {name!r} is not described as safetensors does"[:300])
    dtype = DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise PayloadError(Reason.WRONG_DTYPE, f"tensor {name!r} has dtype {entry['dtype']!r}"[:300])
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not (_naturals(shape, MAX_DIMENSIONS) and _naturals(offsets, 2) and len(offsets) == 2):
        raise PayloadError(Reason.MALFORMED, f"tensor {name!r} has an impossible shape or place"[:300])
    elements = math.prod(shape)
    # An empty tensor agrees with any size; NumPy refuses, by an error of its own, what could never be addressed.
    addressed = elements or math.prod(max(1, length) for length in shape)
    if addressed * dtype.itemsize > MAX_ADDRESS:
        raise PayloadError(Reason.MALFORMED, f"tensor {name!r} has an impossible shape"[:300])
    begin, end = offsets
    if end - begin != elements * dtype.itemsize:
        raise PayloadError(Reason.MALFORMED, f"tensor {name!r}: shape and size do not agree"[:300])
    return dtype, tuple(shape), begin, end


def _naturals(value: object, at_most: int) -> bool:
    if not isinstance(value, list) or len(value) > at_most:
        return False
    for item in value:  # noqa: SIM110 - a generator costs more than the checks
        if type(item) is not int or not 0 <= item < 2**48:
            return False
    return True
