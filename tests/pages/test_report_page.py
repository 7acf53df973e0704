"""The report and the comparison in a real browser: on a phone and a desk, light and dark, for everybody, on paper."""

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

from coordinator.report.comparison import compare, write_comparison
from coordinator.report.page import write_report
from coordinator.run_folder import Record, RunFolder
from tests.pages.conftest import DESKTOP, PHONE, Visitor
from tests.unit.coordinator.recorded import RUN_ID, closed, happened, run_of
from tests.unit.coordinator.test_report import CONFIG

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report and a comparison of made-up runs, in which messages were refused and a round repeated."""
    root = tmp_path_factory.mktemp("reports")
    records: list[Record] = [
        *run_of(12, {"room-1": 2.0, "room-2": 2.5, "room-with-a-long-name-3": 9.0}),
        closed(13, refused={"room-2": {"stale-round": 2}}, attempt=2),
        happened("round-repeated", round_number=13, detail="1 of 2 needed updates"),
    ]
    runs = []
    for run_id, seed in ((RUN_ID, 1), ("another-run-with-a-long-name", 2)):
        run = RunFolder.create(root, run_id, CONFIG | {"training": CONFIG["training"] | {"seed": seed}})
        with run.lock():
            for record in records:
                run.append(record)
        runs.append(run)
    return {
        "report": write_report(runs[0]).html,
        "comparison": write_comparison(compare(runs), root / "compare.html").html,
    }


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desk"])
@pytest.mark.parametrize("name", ["report", "comparison"])
def test_axe_finds_nothing_and_nothing_is_cut_off(
    visit: Visitor, written: dict[str, Path], name: str, size: tuple[int, int], dark: bool
) -> None:
    visited = visit(size=size, dark=dark)
    visited.page.goto(written[name].as_uri())

    found = Axe().run(visited.page)

    assert found.violations_count == 0, found.generate_report()
    assert visited.page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert visited.complaints == []
    assert visited.origins <= {"file:///", "data:///", "data://"}


def test_everything_is_unfolded_when_printed(visit: Visitor, written: dict[str, Path]) -> None:
    page = visit().page
    page.goto(written["report"].as_uri())
    digest = page.get_by_role("cell", name=f"{13:064x}").last

    assert not page.get_by_text("The model after each round").locator("xpath=..").evaluate("found => found.open")
    page.emulate_media(media="print")

    assert digest.is_visible()
    assert page.get_by_text("1 of 2 needed updates").is_visible()
