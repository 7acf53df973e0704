"""The page in every state, on phone and desktop, light and dark: readable, reachable, nothing from elsewhere."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.pages.conftest import DESKTOP, PHONE, Visitor
from tests.pages.made_up_runs import MadeUpRun
from tests.pages.serving import web
from tests.pages.states import STATES

pytestmark = pytest.mark.timeout(600)

VIEWS = {"overview": "", "engineer": "engineer"}

HEADLINES = {
    "empty": "No training has been started yet.",
    "waiting": "Training is waiting for rooms: 2 of the 3 needed are there.",
    "running": "Everything is all right.",
    "failing": "Training goes on, but 3 rooms need a look.",
    "outage": "Training is paused: the message server does not answer.",
    "broken": "Training has stopped unexpectedly.",
    "finished": "Training is finished.",
    "thousand": "Training goes on, but 7 rooms need a look.",
}


class Shown:
    """One server for the runs of all states, another one for no run; the runs may go on."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        (folder / "none").mkdir()
        self._empty = stack.enter_context(web(folder / "none", folder / "empty.log"))
        self.runs: dict[str, MadeUpRun] = {name: make(folder / "runs", stack) for name, make in STATES.items()}
        self._server = stack.enter_context(web(folder / "runs", folder / "web.log"))

    def origin(self, state: str) -> str:
        return (self._empty if state == "empty" else self._server).url

    def address(self, state: str, view: str = "overview") -> str:
        """Of a view of a run in this state."""
        run = "" if state == "empty" else f"?run=run-{state}"
        return f"{self.origin(state)}{VIEWS[view]}{run}"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    with ExitStack() as stack:
        yield Shown(tmp_path_factory.mktemp("states"), stack)


@pytest.mark.parametrize("state", HEADLINES)
def test_headline_says_in_one_sentence_how_things_are(shown: Shown, visit: Visitor, state: str) -> None:
    tab = visit(size=PHONE)

    tab.open(shown.address(state))

    expect(tab.page.get_by_role("heading", level=1)).to_have_text(HEADLINES[state])
    assert tab.complaints == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("state", HEADLINES)
def test_axe_finds_no_violation_and_nothing_is_cut_off(
    shown: Shown, visit: Visitor, state: str, view: str, dark: bool
) -> None:
    tab = visit(size=PHONE, dark=dark)
    tab.open(shown.address(state, view))
    for summary in tab.page.locator("details > summary").all():
        if summary.is_visible():
            summary.click()

    found = Axe().run(tab.page)

    assert found.violations_count == 0, found.generate_report()
    for width, height in (PHONE, DESKTOP):
        tab.page.set_viewport_size({"width": width, "height": height})
        assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert tab.origins == {shown.origin(state)}
    assert tab.complaints == []


def test_trouble_is_said_with_what_to_do(shown: Shown, visit: Visitor) -> None:
    tab = visit(size=PHONE)
    tab.open(shown.address("failing"))

    notices = tab.page.get_by_role("list").filter(has_text="has not answered").get_by_role("listitem")

    texts = notices.all_inner_texts()
    assert "Room 3's device has not answered since" in texts[0]
    assert "Check that it has power and Wi-Fi." in texts[0]
    assert [text.split(" has ")[0].split(" is ")[0] for text in texts] == [
        "Room 3's device",
        "Room 4's device",
        "Room 5's device",
        "Room 2's device",
        "A device that",
    ]


def test_thousand_devices_are_a_page_of_them_a_search_and_a_sum(shown: Shown, visit: Visitor) -> None:
    tab = visit()
    tab.open(shown.address("thousand"))
    rooms = tab.page.locator("#room-list > li")

    expect(tab.page.locator("#rooms-summary")).to_have_text("993 of 1,000 rooms take part.")
    assert rooms.count() == 24
    assert "Room 101" in rooms.first.inner_text()
    assert tab.page.locator("*").count() < 600

    tab.page.get_by_role("button", name="Next page of rooms").click()
    expect(tab.page.locator("#rooms-pager")).to_contain_text("Page 2 of 42")
    tab.page.get_by_label("Find").fill("room 77")
    expect(rooms).to_have_count(11)
    assert rooms.nth(1).inner_text().startswith("Room 770")


def test_new_report_of_a_thousand_devices_touches_only_what_it_changes(shown: Shown, visit: Visitor) -> None:
    tab = visit()
    run = shown.runs["thousand"]
    tab.open(shown.address("thousand", "engineer"))
    expect(tab.page.locator("#timeline-note")).to_contain_text("400 reports so far")
    tab.page.evaluate("""() => {
        window.touched = 0;
        const watch = new MutationObserver((changes) => {
            for (const change of changes) window.touched += change.addedNodes.length;
        });
        watch.observe(document.body, { childList: true, subtree: true });
    }""")

    run.report("room-900")

    expect(tab.page.locator("#timeline-note")).to_contain_text("401 reports so far")
    # A text for each changed sentence and clock, a few rows; not a page of rows.
    assert tab.page.evaluate("window.touched") < 60


def test_page_is_reached_by_keyboard_alone(shown: Shown, visit: Visitor) -> None:
    tab = visit()
    tab.open(shown.address("thousand"))
    reached = []
    for _ in range(12):
        tab.page.keyboard.press("Tab")
        reached.append(tab.page.evaluate("document.activeElement.innerText || document.activeElement.id"))

    assert reached[:6] == [
        "Skip to the content",
        "Overview",
        "Engineer",
        "The curve in numbers",
        "query",
        "Next",
    ]


def test_focus_stays_where_it_is_while_news_come(shown: Shown, visit: Visitor) -> None:
    tab = visit()
    run = shown.runs["running"]
    tab.open(shown.address("running", "engineer"))
    tab.page.get_by_label("Sort by").focus()
    before = tab.page.locator("#timeline-note").inner_text()

    run.report("room-5")

    expect(tab.page.locator("#timeline-note")).not_to_have_text(before)
    assert tab.page.evaluate("document.activeElement.id") == "sort"


def test_engineer_chooses_round_and_sorting(shown: Shown, visit: Visitor) -> None:
    tab = visit()
    tab.open(shown.address("failing", "engineer"))

    tab.page.locator("#timeline-round").select_option("7")
    expect(tab.page.locator("#timeline-note")).to_contain_text("Round 7, finished")
    tab.page.get_by_label("Sort by").select_option("state")

    expect(tab.page.locator("#devices tr").first).to_contain_text("room-3")
    expect(tab.page.locator("#refusals")).to_contain_text("non-finite")


def test_state_survives_without_colour(shown: Shown, visit: Visitor) -> None:
    tab = visit(size=PHONE)
    tab.open(shown.address("failing"))

    labels = tab.page.locator("#room-list > li").all_inner_texts()

    assert sum("takes part" in label for label in labels) == 2
    assert any("no answer since" in label for label in labels)
    assert any("results cannot be used" in label for label in labels)
