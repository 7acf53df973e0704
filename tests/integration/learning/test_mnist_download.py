"""Downloading MNIST: from real HTTP servers on this machine that serve the real files, or something else."""

import functools
import gzip
import http.server
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from learning.mnist import SHA256_UNCOMPRESSED, DatasetUnavailable, download_mnist, find_mnist, load_mnist

Mirror = Callable[[Path], str]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the mirrors have it: the four real files, gzipped."""
    source = find_mnist()
    if source is None:
        if os.environ.get("CI"):
            pytest.fail("no copy of MNIST: set FEDERATION_DATA")
        pytest.skip("no copy of MNIST: set FEDERATION_DATA or put one into ../shared/data")
    folder = tmp_path_factory.mktemp("published")
    for name in SHA256_UNCOMPRESSED:
        packed = source / f"{name}.gz"
        content = packed.read_bytes() if packed.is_file() else gzip.compress((source / name).read_bytes(), 1)
        (folder / f"{name}.gz").write_bytes(content)
    return folder


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files and writes nothing to the test's output."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """Starts a server for a folder and returns its URL."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    servers = []

    def start(folder: Path) -> str:
        handler = functools.partial(QuietHandler, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def test_files_are_downloaded_verified_and_found_again(
    tmp_path: Path, published: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = download_mnist(tmp_path / "federation" / "mnist", [mirror(published)])
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.gz" for name in SHA256_UNCOMPRESSED)
    assert load_mnist(folder).test_labels[:3].tolist() == [7, 2, 1]
    monkeypatch.setenv("FEDERATION_DATA", str(folder))
    assert find_mnist() == folder


def test_files_that_are_there_are_not_downloaded_again(tmp_path: Path, published: Path, mirror: Mirror) -> None:
    download_mnist(tmp_path, [mirror(published)])
    assert download_mnist(tmp_path, ["http://127.0.0.1:9/unreachable/"]) == tmp_path


@pytest.mark.parametrize("damage", ["absent", "truncated", "another file", "not gzip"])
def test_mirror_that_serves_something_else_is_passed_over(
    tmp_path: Path, published: Path, mirror: Mirror, damage: str
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    name = "t10k-labels-idx1-ubyte.gz"
    real = (published / name).read_bytes()
    replacement = {
        "truncated": real[:2000],
        "another file": gzip.compress(b"something else"),
        "not gzip": b"<html>Sign in to the hotel's network</html>",
    }
    if damage in replacement:
        for file in SHA256_UNCOMPRESSED:
            (bad / f"{file}.gz").write_bytes(replacement[damage])
    cache = tmp_path / "cache"
    download_mnist(cache, [mirror(bad), mirror(published)])
    assert (cache / name).read_bytes() == real


def test_no_mirror_with_the_right_file_is_one_error_that_leaves_nothing_behind(
    tmp_path: Path, published: Path, mirror: Mirror
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "train-images-idx3-ubyte.gz").write_bytes((published / "t10k-images-idx3-ubyte.gz").read_bytes())
    cache, url = tmp_path / "cache", mirror(bad)
    with pytest.raises(DatasetUnavailable) as caught:
        download_mnist(cache, [url, "http://127.0.0.1:9/"])
    message = str(caught.value)
    assert f"train-images-idx3-ubyte from {url}: " in message
    assert f"expected {SHA256_UNCOMPRESSED['train-images-idx3-ubyte']}" in message
    assert "; http://127.0.0.1:9/: " in message
    assert "--data" in message
    assert list(cache.iterdir()) == []


def test_cache_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatasetUnavailable, match=f"MNIST cannot be kept in {tmp_path}/file/mnist"):
        download_mnist(tmp_path / "file" / "mnist", [])
