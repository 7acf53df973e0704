"""Replacing a file: in which order the disk is told, as only that decides what a power cut leaves."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.durable import TEMPORARY_SUFFIX, replace_file
from schemas.errors import StorageError


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was forced onto the disk or renamed, in order."""
    told: list[str] = []

    def noting(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(target: Any, *others: Any) -> Any:
            path = Path(f"/proc/self/fd/{target}").readlink() if name == "fsync" else Path(target)
            told.append(f"{name} {path.name} {path.stat().st_size if path.is_file() else ''}".strip())
            return real(target, *others)

        return call

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, noting(name, getattr(os, name)))
    return told


def test_content_is_on_disk_before_its_name_when_file_is_replaced(tmp_path: Path, told: list[str]) -> None:
    replace_file(tmp_path / "file", [b"12345", memoryview(b"678")])

    assert told == [f"fsync file{TEMPORARY_SUFFIX} 8", f"replace file{TEMPORARY_SUFFIX} 8", f"fsync {tmp_path.name}"]
    assert (tmp_path / "file").read_bytes() == b"12345678"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_old_content_stays_when_the_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    path = tmp_path / "file"
    replace_file(path, [b"old"])
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(StorageError, match=r"cannot write .*file: Input/output error"):
            replace_file(path, [b"new"])

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_file_is_written_by_the_owner_alone_when_umask_allows_everything(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        replace_file(tmp_path / "file", [b""])
    finally:
        os.umask(umask)

    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
