"""Getting in from another machine: by the token, once, in a browser; and a page that lives as long as its run."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from socket import create_server

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from mosquitto.broker import PrivateBroker
from tests.integration.certificates import Authority
from tests.integration.federation import Federation
from tests.pages.conftest import PHONE, Visitor
from tests.pages.serving import LIMIT_S, web

pytestmark = pytest.mark.timeout(600)

TOKEN = "one-token-of-many-characters"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "page.token"
    path.touch(mode=0o600)
    path.write_text(f"{TOKEN}\n")
    return path


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_browser_is_asked_for_the_token_once(tmp_path: Path, token_file: Path, visit: Visitor, dark: bool) -> None:
    tab = visit(size=PHONE, dark=dark)
    with web(tmp_path / "runs", tmp_path / "web.log", "--host", "0.0.0.0", "--token-file", str(token_file)) as server:  # noqa: S104 - what the token is for
        tab.page.goto(server.url + "engineer")
        field = tab.page.get_by_label("Token")
        expect(field).to_be_focused()
        assert Axe().run(tab.page).violations_count == 0
        tab.page.keyboard.type("not the token")
        tab.page.keyboard.press("Enter")
        expect(field).to_have_value("")
        expect(field).to_be_focused()

        tab.page.keyboard.type(TOKEN)
        tab.page.keyboard.press("Enter")

        expect(tab.page.get_by_role("heading", level=1)).to_have_text("No training has been started yet.")
        assert tab.page.url == server.url
        tab.open(server.url + "engineer")
        assert tab.page.evaluate("document.cookie") == ""
        log = server.log()
    assert "browsers are asked for the token in" in log
    assert TOKEN not in log


def test_browser_reads_the_page_over_tls_in_which_nothing_is_mixed(
    tmp_path: Path, visit: Visitor, token_file: Path
) -> None:
    own = Authority(tmp_path / "tls", "home").issue("page", server=True)
    own.key_file.chmod(0o600)
    options = ["--tls-cert", str(own.certificate_file), "--tls-key", str(own.key_file)]
    tab = visit(size=PHONE, ignore_https_errors=True)  # Chromium has its own list of authorities
    with web(tmp_path / "runs", tmp_path / "web.log", *options, "--token-file", str(token_file)) as server:
        tab.page.goto(f"{server.url}enter?token={TOKEN}")

        expect(tab.page.locator("#live")).to_contain_text("Live, as of")
        assert tab.origins == {server.url}
        assert tab.complaints == []


SETTINGS = """
[rounds]
min_agents = 2
[data]
dataset = "none"
[web]
port = {port}
"""


@pytest.fixture
def waiting_run(tmp_path: Path, mosquitto_program: str) -> Iterator[Federation]:
    """A coordinator that waits for two rooms, of which there is none."""
    assert mosquitto_program
    with closing(create_server(("127.0.0.1", 0))) as unused:
        port = unused.getsockname()[1]
    passwords = {user: f"password of {user}" for user in ("coordinator", "room-1")}
    with PrivateBroker(tmp_path / "broker", passwords) as broker:
        settings = SETTINGS.format(port=port)
        with Federation(tmp_path, broker, 1, settings) as federation:
            yield federation


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}api/overview", timeout=60) as answer:  # noqa: S310 - our own address
            return b"crash-test" in answer.read()
    except (urllib.error.URLError, OSError):
        return False


def test_page_beside_a_run_ends_with_it_even_when_it_is_killed(waiting_run: Federation) -> None:
    config = waiting_run.config.read_text()
    address = f"http://127.0.0.1:{config.split('port = ')[1].split()[0]}/"
    coordinator = waiting_run.coordinator

    coordinator.start("run", str(waiting_run.config), "--web")
    waiting_run.wait_until(lambda: answers(address), "the page beside the run", LIMIT_S)
    assert f"the page is at {address}" in coordinator.log()
    coordinator.kill()
    waiting_run.wait_until(lambda: not answers(address), "the end of the page of the run that was killed")

    coordinator.start("resume", "crash-test", "--runs", str(waiting_run.runs), "--web")
    waiting_run.wait_until(lambda: answers(address), "the page beside the resumed run", LIMIT_S)
    coordinator.terminate()
    waiting_run.wait_until(lambda: not answers(address), "the end of the page of the run that was stopped")
