"""The IDX format, byte by byte."""

import gzip
from pathlib import Path

import pytest

from learning.idx import parse_idx, read_uncompressed
from schemas.errors import DataError

# Two images of 1x3 bytes.
IDX = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6])
SOURCE = Path("some-file")


def test_array_is_read_in_its_shape() -> None:
    assert parse_idx(IDX, SOURCE).tolist() == [[[1, 2, 3]], [[4, 5, 6]]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (IDX[:-1], r"some-file is truncated or damaged: 21 bytes uncompressed, expected 22 for shape \[2, 1, 3\]"),
        (IDX + b"\0", "23 bytes uncompressed, expected 22"),
        (IDX[:10], "truncated in its header"),
        (b"", "not an IDX file"),
        (bytes([0, 0, 13, 1]) + IDX[4:], "not an IDX file of unsigned bytes"),
        (b"\x89PNG and so on", "not an IDX file"),
    ],
)
def test_damaged_content_is_one_error_naming_the_file(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_idx(content, SOURCE)


@pytest.mark.parametrize("name", ["plain", "packed.gz", "packed-without-suffix"])
def test_file_is_uncompressed_by_what_it_holds_not_by_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(IDX if name == "plain" else gzip.compress(IDX))
    assert read_uncompressed(tmp_path / name) == IDX


def test_truncated_gzip_is_one_error_naming_the_file(tmp_path: Path) -> None:
    (tmp_path / "cut.gz").write_bytes(gzip.compress(IDX)[:-9])
    with pytest.raises(DataError, match=r"cut\.gz is truncated or damaged"):
        read_uncompressed(tmp_path / "cut.gz")


def test_gzip_with_a_flipped_byte_is_one_error(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(IDX))
    content[-6] ^= 0xFF  # in the checksum
    (tmp_path / "flipped.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"flipped\.gz is truncated or damaged"):
        read_uncompressed(tmp_path / "flipped.gz")


def test_missing_file_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere cannot be read: No such file"):
        read_uncompressed(tmp_path / "nowhere")
