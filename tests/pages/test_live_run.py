"""The page against a real run: real Mosquitto, real coordinator and agents, the real server, a real browser."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from coordinator.run_folder import RunFolder
from coordinator.summary import rounds_of, summarise_devices
from learning.datasets import Examples, load_dataset
from learning.folders import write_folder
from mosquitto.broker import PrivateBroker
from tests.integration.federation import RUN_ID, Federation
from tests.pages.conftest import PHONE, Visit, Visitor
from tests.pages.serving import LIMIT_S, WebProcess, web

pytestmark = pytest.mark.timeout(600)

AGENTS = 3
SETTINGS = """
[training]
model = "cnn"
local_batches = 4
batch_size = 8
[rounds]
count = {rounds}
min_agents = 3
min_updates = 1
deadline_s = 100
patience_s = 200
[data]
dataset = "digits"
"""


def federation(folder: Path, broker: PrivateBroker, rounds: int) -> Federation:
    """Three agents with real digits, and a coordinator that tries each model on others."""
    made = Federation(folder, broker, AGENTS, SETTINGS.format(rounds=rounds))
    train = load_dataset("digits", None).train
    for number, part in enumerate(np.array_split(np.arange(len(train.labels)), AGENTS), 1):
        own = Examples(train.features[part], train.labels[part], 10, "digits")
        write_folder(folder / f"room-{number}" / "data", own)
    return made


@pytest.fixture(scope="module")
def rooms_broker(mosquitto_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateBroker]:
    assert mosquitto_program
    users = ["coordinator", *(f"room-{number}" for number in range(1, AGENTS + 1))]
    passwords = {user: f"password of {user}" for user in users}
    with PrivateBroker(tmp_path_factory.mktemp("broker"), passwords) as broker:
        yield broker


@pytest.fixture(scope="module")
def endless(rooms_broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A run that goes on as long as the tests of this file; each leaves it as it was."""
    with federation(tmp_path_factory.mktemp("endless"), rooms_broker, 100_000) as running:
        running.start()
        config = running.runs / RUN_ID / "config.json"
        running.wait_until(lambda: config.exists() and len(running.rounds()) >= 2, "the second round", LIMIT_S)
        yield running


@pytest.fixture(scope="module")
def page_server(endless: Federation) -> Iterator[WebProcess]:
    with web(endless.runs, endless.folder / "web.log") as process:
        yield process


@pytest.fixture
def home(page_server: WebProcess, visit: Visitor) -> Visit:
    """The first view, all being well."""
    tab = visit(size=PHONE)
    tab.open(page_server.url)
    expect(headline(tab.page)).to_have_text("Everything is all right.")
    return tab


def headline(page: Page) -> Locator:
    return page.get_by_role("heading", level=1)


def cells(page: Page, rows: str) -> list[list[str]]:
    """The texts of a table."""
    found = page.locator(f"{rows} tr").evaluate_all("rows => rows.map(r => [...r.children].map(c => c.textContent))")
    assert isinstance(found, list)
    return found


def test_killed_device_shows_in_seconds_with_what_to_do(
    endless: Federation, home: Visit, capsys: pytest.CaptureFixture[str]
) -> None:
    endless.agents["room-2"].kill()
    killed_s = time.monotonic()
    notice = home.page.get_by_text("Room 2's device has not answered since")
    expect(notice).to_be_visible()
    took_s = time.monotonic() - killed_s

    with capsys.disabled():
        sys.stdout.write(f"\na killed device showed on the page after {took_s:.2f} s\n")
    expect(home.page.get_by_text("Check that it has power and Wi-Fi.")).to_be_visible()
    expect(headline(home.page)).to_have_text("Training goes on, but 1 room needs a look.")
    expect(home.page.locator("#rooms-summary")).to_have_text("2 of 3 rooms take part.")

    endless.agents["room-2"].start()
    expect(headline(home.page)).to_have_text("Everything is all right.")
    expect(notice).to_be_hidden()


def test_page_says_when_the_coordinator_is_gone_and_goes_on_when_it_is_back(endless: Federation, home: Visit) -> None:
    endless.coordinator.kill()
    expect(headline(home.page)).to_have_text("Training has stopped unexpectedly.")
    expect(home.page.locator("#detail")).to_contain_text(f"coordinator resume {RUN_ID}")

    endless.resume()
    expect(headline(home.page)).to_have_text("Everything is all right.")
    assert home.complaints == []


def test_page_says_when_its_own_server_is_gone_and_mends_itself(page_server: WebProcess, home: Visit) -> None:
    page_server.kill()
    expect(home.page.get_by_role("alert")).to_contain_text("no news from the training computer since")
    expect(home.page.locator("#live")).to_contain_text("Last news at")

    page_server.start()
    expect(home.page.get_by_role("alert")).to_be_hidden()
    expect(home.page.locator("#live")).to_contain_text("Live, as of")


def test_page_says_when_the_broker_is_gone_and_back(
    endless: Federation, rooms_broker: PrivateBroker, home: Visit
) -> None:
    rooms_broker.kill()
    expect(headline(home.page)).to_have_text("Training is paused: the message server does not answer.")
    expect(home.page.locator("#rooms-summary")).to_contain_text("not known")

    rooms_broker.start()
    expect(headline(home.page)).to_have_text("Everything is all right.")
    assert endless.coordinator.exit_code is None


def test_rounds_come_live_to_the_engineer(page_server: WebProcess, visit: Visitor) -> None:
    tab = visit()
    tab.open(page_server.url + "engineer")
    first = int(cells(tab.page, "#rounds")[0][0].replace(",", ""))

    tab.page.wait_for_timeout(100)
    expect(tab.page.locator("#rounds tr").first.locator("th")).not_to_have_text(f"{first:,}")
    assert int(cells(tab.page, "#rounds")[0][0].replace(",", "")) > first
    assert [row[0] for row in cells(tab.page, "#devices")] == ["room-1", "room-2", "room-3"]
    assert tab.complaints == []


def test_numbers_on_the_page_are_those_of_the_record(
    rooms_broker: PrivateBroker, endless: Federation, tmp_path: Path, visit: Visitor
) -> None:
    # One coordinator per federation: the endless run makes room for this one.
    endless.coordinator.terminate()
    for agent in endless.agents.values():
        agent.terminate()
    with federation(tmp_path, rooms_broker, 5) as short, web(short.runs, tmp_path / "web.log") as server:
        tab = visit()
        tab.open(server.url)
        short.start()
        short.finish()
        expect(headline(tab.page)).to_have_text("Training is finished.")
        records = RunFolder.open(short.runs, RUN_ID).records()
        rounds, devices = rounds_of(records), summarise_devices(records)

        check_overview(tab.page, [r.accuracy for r in rounds])
        tab.open(f"{server.url}engineer")
        table = cells(tab.page, "#rounds")[::-1]
        assert [row[0] for row in table] == ["1", "2", "3", "4", "5"]
        assert [row[2] for row in table] == [f"{(r.accuracy or 0) * 100:.2f} %" for r in rounds]
        assert [row[3] for row in table] == [f"{r.loss:.4f}" for r in rounds]
        assert [row[4] for row in table] == [f"{r.train_loss:.4f}" for r in rounds]
        assert [row[5] for row in table] == [f"{len(r.accepted)}/{len(r.selected)}" for r in rounds]
        assert [row[7] for row in table] == [in_seconds(r.duration_s) for r in rounds]
        shown = cells(tab.page, "#devices")
        assert [row[0] for row in shown] == [device.agent_id for device in devices]
        assert [row[3] for row in shown] == [f"{d.rounds_accepted}/{d.rounds_selected}" for d in devices]
        assert [row[5] for row in shown] == [in_seconds(d.train_s) for d in devices]
        assert [row[9] for row in shown] == [in_bytes(d.packet_bytes_up) for d in devices]
        assert tab.origins == {server.url}
        assert tab.complaints == []


def in_seconds(value: float | None) -> str:
    """As the page writes it: three digits that matter."""
    assert value is not None
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} s"


def in_bytes(value: int) -> str:
    unit, size = ("MB", 1e6) if value >= 1e6 else ("kB", 1e3)
    return f"{value / size:.{0 if value >= 100 * size else 1 if value >= 10 * size else 2}f} {unit}"


def check_overview(page: Page, accuracies: list[float | None]) -> None:
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    assert page.locator("#accuracy").inner_text() == f"{known[-1] * 100:.1f} %"
    page.get_by_text("The curve in numbers").click()
    shown = cells(page, "#numbers")[::-1]
    assert shown == [[str(number), f"{accuracy * 100:.1f} %"] for number, accuracy in enumerate(known, 1)]
    rooms = [" ".join(text.split()) for text in page.locator("#room-list > li").all_inner_texts()]
    assert rooms == [f"Room {number} in {len(accuracies)} rounds" for number in range(1, AGENTS + 1)]
