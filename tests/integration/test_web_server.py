"""The page's server over real HTTP and TLS: who gets in, what every answer says, and what stays out of the log."""

import http.client
import json
import logging
import os
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from coordinator.run_folder import RunFolder
from coordinator.web.server import HEADERS, PageServer
from coordinator.web.settings import WebSection
from schemas.errors import ConfigError
from tests.integration.certificates import Authority
from tests.unit.coordinator.recorded import closed, happened

TOKEN = "one-token-of-many-characters"


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def json(self) -> dict[str, object]:
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found


@dataclass
class Visitor:
    """Somebody who asks, from this machine."""

    port: int
    ca: Path | None = None

    def ask(self, address: str, method: str = "GET", **headers: str) -> Answer:
        connection = (
            http.client.HTTPSConnection("127.0.0.1", self.port, context=ssl.create_default_context(cafile=self.ca))
            if self.ca is not None
            else http.client.HTTPConnection("127.0.0.1", self.port)
        )
        try:
            connection.request(method, address, headers={name.replace("_", "-"): v for name, v in headers.items()})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()


@contextmanager
def served(runs: Path, run_id: str | None = None, **settings: object) -> Iterator[Visitor]:
    page = WebSection.model_validate({"port": 0} | settings)
    server = PageServer(runs, run_id, page)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield Visitor(int(server.url.rstrip("/").rsplit(":", 1)[1]))
    finally:
        server.stop()
        thread.join()


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs; the newer one has a round."""
    make_run(tmp_path / "runs", "old")
    make_run(tmp_path / "runs", "new")
    # Both may have been made within one tick of the clock by which the kernel dates files.
    os.utime(tmp_path / "runs" / "old" / "config.json", (0, 0))
    return tmp_path / "runs"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "page.token"
    path.touch(mode=0o600)
    path.write_text(f"{TOKEN}\n")
    return path


def make_run(root: Path, run_id: str) -> None:
    folder = RunFolder.create(root, run_id, {"rounds": {"count": 5}})
    with folder.lock():
        folder.append(happened("started"))
        folder.append(closed(1, accuracy=0.5))


def test_page_and_its_parts_are_served_with_headers_that_keep_everything_here(runs: Path) -> None:
    with served(runs) as visitor:
        for address in ("/", "/engineer", "/static/overview.js", "/static/vendor/chart.umd.min.js", "/api/overview"):
            answer = visitor.ask(address)
            assert answer.status == 200
            assert {name: answer.headers[name] for name in HEADERS} == HEADERS
            assert "server" not in answer.headers


def test_everything_but_reading_is_refused(runs: Path) -> None:
    with served(runs) as visitor:
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            for address in ("/", "/enter", "/api/overview", "/static/page.css"):
                assert visitor.ask(address, method).status == 405
        assert visitor.ask("/", "HEAD").status == 200


@pytest.mark.parametrize("address", ["/static/../server.py", "/static/%2e%2e/server.py", "/runs", "/record.jsonl"])
def test_nothing_else_of_the_disk_is_served(runs: Path, address: str) -> None:
    with served(runs) as visitor:
        assert visitor.ask(address).status == 404


def test_newest_run_is_shown_and_others_by_name(runs: Path) -> None:
    with served(runs) as visitor:
        assert visitor.ask("/api/overview").json()["run"] == visitor.ask("/api/overview?run=new").json()["run"]
        assert '"run_id":"old"' in visitor.ask("/api/overview?run=old").body.decode()
        assert visitor.ask("/api/runs").json() == {"runs": ["new", "old"]}
        for unknown in ("none", "..", "../runs/new", "a%00b"):
            assert visitor.ask(f"/api/overview?run={unknown}").status == 404


def test_page_of_one_run_shows_no_other(runs: Path) -> None:
    with served(runs, "old") as visitor:
        assert visitor.ask("/api/runs").json() == {"runs": ["old"]}
        assert visitor.ask("/api/engineer?run=new").status == 404


def test_nonsense_in_the_address_is_taken_for_nothing(runs: Path) -> None:
    with served(runs) as visitor:
        for query in (
            "page=-1",
            "page=x",
            "page=99999999999",
            "round=%C2%B2",
            "sort=nothing",
            "timeline_page=0",
            "query=%ff",
        ):
            assert visitor.ask(f"/api/engineer?{query}").status == 200


def test_answer_is_not_repeated_while_nothing_is_new(runs: Path) -> None:
    with served(runs) as visitor:
        first = visitor.ask("/api/overview")
        again = [visitor.ask("/api/overview", If_None_Match=first.headers["etag"]) for _ in range(3)]

    # The version holds the time in steps, one of which may just pass.
    assert 304 in [answer.status for answer in again]
    assert first.headers["cache-control"] == "no-store"


def test_unreadable_record_is_said_without_its_place(runs: Path) -> None:
    (runs / "new" / "record.jsonl").unlink()
    with served(runs) as visitor:
        answer = visitor.ask("/api/overview")

    assert answer.status == 503
    assert answer.json() == {"error": "the run's files cannot be read"}


def test_foreign_name_is_refused_on_this_machine(runs: Path) -> None:
    # A site whose name is made to mean 127.0.0.1 must not read the page through its visitor's browser.
    with served(runs) as visitor:
        assert visitor.ask("/api/overview", Host="evil.example").status == 400
        assert visitor.ask("/api/overview", Host="localhost:9999").status == 200


def test_token_is_asked_for_once_and_never_logged(
    runs: Path, token_file: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with served(runs, host="0.0.0.0", token_file=token_file) as visitor:  # noqa: S104 - what the token is for
        for address in ("/", "/engineer", "/enter", "/enter?token=wrong", "/enter?token="):
            refused = visitor.ask(address)
            assert refused.status == 401
            assert b"Who may look?" in refused.body
        for address in ("/api/overview", "/api/engineer", "/api/runs"):
            assert visitor.ask(address).status == 401
            assert visitor.ask(address, Cookie=f"federation_page={TOKEN}").status == 401

        entered = visitor.ask(f"/enter?token={TOKEN}")
        cookie = entered.headers["set-cookie"]

        assert (entered.status, entered.headers["location"]) == (303, "/")
        assert "httponly" in cookie.lower()
        assert TOKEN not in cookie
        assert visitor.ask("/api/overview", Cookie=cookie.split(";")[0]).status == 200
    said = capfd.readouterr()
    assert TOKEN not in caplog.text + said.out + said.err


def test_page_over_tls_is_read_with_its_certificate_and_its_cookie_stays_there(
    runs: Path, token_file: Path, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "tls", "home")
    own = authority.issue("page", server=True)
    own.key_file.chmod(0o600)
    settings: dict[str, Any] = {"tls_cert": own.certificate_file, "tls_key": own.key_file, "token_file": token_file}
    with served(runs, **settings) as visitor:
        visitor.ca = authority.ca_file
        entered = visitor.ask(f"/enter?token={TOKEN}")

        assert "secure" in entered.headers["set-cookie"].lower()
        assert visitor.ask("/api/overview", Cookie=entered.headers["set-cookie"].split(";")[0]).status == 200
        with pytest.raises((http.client.HTTPException, OSError)):
            Visitor(visitor.port).ask("/")


def test_port_that_is_taken_is_an_error_with_what_to_do(runs: Path) -> None:
    with (
        served(runs) as visitor,
        pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1, port \d+: .*--port"),
    ):
        PageServer(runs, None, WebSection(port=visitor.port))


def test_certificate_that_is_none_is_an_error_that_names_it(runs: Path, tmp_path: Path) -> None:
    for name in ("page.crt", "page.key"):
        (tmp_path / name).touch(mode=0o600)
    settings = WebSection(port=0, tls_cert=tmp_path / "page.crt", tls_key=tmp_path / "page.key")

    with pytest.raises(ConfigError, match=r"web\.tls_cert .*page\.crt"):
        PageServer(runs, None, settings)
