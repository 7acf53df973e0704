"""Reads IDX files, the format that MNIST is published in, plain or gzipped.

The format: two zero bytes, a type code (8 = unsigned bytes, the only one read here), the number of dimensions,
each dimension as a big-endian uint32, then the data in C order (http://yann.lecun.com/exdb/mnist/).
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from schemas.errors import DataError

_GZIP_MAGIC = b"\x1f\x8b"
_UNSIGNED_BYTES = b"\x00\x00\x08"


def read_uncompressed(path: Path) -> bytes:
    """The file's bytes, gunzipped if they are gzip, whatever the file is called.

    Raises:
        DataError: the file cannot be read, or its gzip stream is truncated or damaged.
    """
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(_GZIP_MAGIC) else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is truncated or damaged ({error}): copy it again or delete it") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def parse_idx(content: bytes, source: Path) -> npt.NDArray[np.uint8]:
    """The array in an uncompressed IDX file, read-only; `source` names it in errors.

    Raises:
        DataError: it is not IDX of unsigned bytes, or holds more or less data than its header says.
    """
    if len(content) < 4 or content[:3] != _UNSIGNED_BYTES:
        raise DataError(f"{source} is not an IDX file of unsigned bytes: expected it to begin with 00 00 08")
    dimensions = content[3]
    header_bytes = 4 + 4 * dimensions
    if len(content) < header_bytes:
        raise DataError(f"{source} is truncated in its header: copy it again")
    shape = struct.unpack(f">{dimensions}I", content[4:header_bytes])
    expected_bytes = header_bytes + math.prod(shape)
    if len(content) != expected_bytes:
        raise DataError(
            f"{source} is truncated or damaged: {len(content)} bytes uncompressed, expected {expected_bytes} "
            f"for shape {list(shape)}: copy it again"
        )
    return np.frombuffer(content, np.uint8, offset=header_bytes).reshape(shape)
