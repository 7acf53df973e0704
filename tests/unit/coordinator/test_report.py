"""The report: complete, self-contained, without secrets, and drawn from the same numbers as everything else."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from coordinator.report import plots
from coordinator.report.facts import Facts
from coordinator.report.page import page, pictures, write_report
from coordinator.run_folder import Record, RunFolder
from tests.unit.coordinator.recorded import RUN_ID, closed, happened, reported, run_of

CONFIG: dict[str, Any] = {
    "run_id": RUN_ID,
    "runs_folder": "/srv/runs",
    "broker": {"host": "broker.example", "username": "coordinator", "password_file": "/etc/secret", "ca": "/etc/ca"},
    "training": {"model": "cnn", "local_batches": 10, "batch_size": 16, "strategy": "fedavg", "seed": 1},
    "rounds": {"count": 4, "target_accuracy": 0.75},
    "data": {"dataset": "mnist", "partition": "digit-pairs"},
    "influx": {"url": "http://metrics", "token_file": "/etc/token"},
    "environment": {"python": "3.11.7", "torch": "2.10.0"},
    "hardware": {"cpu_model": "Raspberry Pi 4", "cores": 4, "memory_gib": 3.7},
    "plan": {"model": "cnn", "seed": 1},
}
PNG = b"\x89PNG\r\n\x1a\n"
VOID = {"meta", "img", "source", "br"}


class Page(HTMLParser):
    """What a browser would make of the page: text, references to elsewhere, pictures, and whether tags match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.references: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == [], f"left open: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [v for key, v in attrs if key in ("src", "srcset", "href") and v is not None]
        assert tag != "img" or dict(attrs)["alt"]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.words += data.split()

    @property
    def text(self) -> str:
        """All that can be read, with single spaces."""
        return " ".join(self.words)


def make_run(root: Path, records: list[Record], config: dict[str, Any] = CONFIG) -> RunFolder:
    run = RunFolder.create(root, RUN_ID, config)
    with run.lock():
        for record in records:
            run.append(record)
    return run


def html_of(root: Path, records: list[Record], config: dict[str, Any] = CONFIG) -> str:
    """The page without its pictures, which take a second to draw."""
    return page(Facts.read(make_run(root, records, config)), [])


def text_of(root: Path, records: list[Record], config: dict[str, Any] = CONFIG) -> str:
    return Page(html_of(root, records, config)).text


def test_report_is_one_file_that_refers_to_nothing_else(tmp_path: Path) -> None:
    written = write_report(make_run(tmp_path, run_of(3, {"a": 2.0, "b": 3.0})))

    found = Page(written.html.read_text())
    assert len(found.references) == 12  # six pictures, light and dark
    assert all(reference.startswith("data:image/png;base64,") for reference in found.references)


def test_report_says_what_the_run_came_to(tmp_path: Path) -> None:
    text = text_of(tmp_path, run_of(3, {"a": 2.0, "b": 6.0}))

    assert "Finished. Started 20" in text
    assert "Its target, 75.00%, was reached in round 3." in text
    assert "Test accuracy 80.00% Rounds 3 Devices 2" in text
    assert "Straggler b: 6.00 s a round, the others 2.00 s" in text
    assert "No message was refused." in text


def test_report_lists_refusals_events_and_repeated_rounds(tmp_path: Path) -> None:
    records: list[Record] = [
        closed(1, refused={"a": {"stale-round": 2}}),
        happened("round-repeated", round_number=2, detail="1 of 2 needed updates"),
        closed(2, attempt=2),
    ]

    text = text_of(tmp_path, records)

    assert "stale-round 2 a (2)" in text
    assert "round-repeated 1 of 2 needed updates" in text
    assert "2 (attempt 2)" in text


def test_report_names_no_user_and_no_place_of_a_secret(tmp_path: Path) -> None:
    html = html_of(tmp_path, run_of(1, {"a": 1.0}))

    assert "broker.example" in html
    assert not re.search("/etc/|username|password|token", html)


def test_report_holds_what_is_needed_to_reproduce_the_run(tmp_path: Path) -> None:
    text = text_of(tmp_path, run_of(2, {"a": 1.0}))

    assert f"model after the last round {2:064x}" in text
    assert f"1 {1:064x} 2 {2:064x}" in text
    assert re.search(r"seed 1 training plan [0-9a-f]{64} models of all rounds [0-9a-f]{64}", text)
    assert "cpu model Raspberry Pi 4 cores 4 memory, GiB 3.7" in text
    assert "python 3.11.7 torch 2.10.0" in text
    assert re.search(r"config\.json [0-9a-f]{64} record\.jsonl [0-9a-f]{64}", text)
    assert "seed 1" in text


def test_report_stands_beside_the_study_only_when_the_two_can_be_compared(tmp_path: Path) -> None:
    records = run_of(1, {"a": 1.0})
    other = CONFIG | {"training": CONFIG["training"] | {"model": "mlp"}}

    assert "Beside the reference study" in text_of(tmp_path / "cnn", records)
    assert "Beside the reference study" not in text_of(tmp_path / "mlp", records, other)


def test_report_says_when_the_studys_accuracy_was_reached(tmp_path: Path) -> None:
    text = text_of(tmp_path, run_of(4, {"a": 1.0}))

    assert "rounds to 85.00% 4 25" in text
    assert "seconds to 85.00%, all rounds 16.0 not stated" in text
    assert "rounds to 85.00% not reached 25" in text_of(tmp_path / "short", run_of(2, {"a": 1.0}))


def test_report_of_a_run_without_a_round_is_a_page_without_pictures(tmp_path: Path) -> None:
    found = Page(write_report(make_run(tmp_path, [happened("started")])).html.read_text())

    assert found.references == []
    assert "No round has closed yet." in found.text


def test_report_escapes_what_devices_and_people_wrote(tmp_path: Path) -> None:
    records: list[Record] = [closed(1), happened("aborted", detail="<script>alert(1)</script>")]

    assert "<script>" not in html_of(tmp_path, records)


def test_report_goes_where_it_is_told_with_its_plots_beside_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", run_of(1, {"a": 1.0}))

    written = write_report(run, tmp_path / "elsewhere" / "my.html")

    assert written.html == tmp_path / "elsewhere" / "my.html"
    assert {path.parent for path in written.plots} == {tmp_path / "elsewhere" / "my-plots"}
    assert all(path.read_bytes().startswith(PNG) for path in written.plots)


def test_pictures_are_described_in_words(tmp_path: Path) -> None:
    run = make_run(tmp_path, run_of(2, {"a": 1.0, "b": 9.0}))

    alts = {picture.name: picture.alt for picture in pictures(Facts.read(run))}

    assert alts["accuracy"] == "Test accuracy over 2 rounds, from 60.00% to 70.00%, and the losses below it."
    assert "50% after 1 round, 60% after 1 round, 70% after 2 rounds" in alts["levels"]
    assert "straggler b" in alts["latency"]
    assert all(len(alt) > 40 for alt in alts.values())


def test_pictures_of_many_devices_show_the_slowest_and_say_so(tmp_path: Path) -> None:
    latencies = {f"pi-{number:02}": 1.0 + number for number in range(30)}
    run = make_run(tmp_path, run_of(1, latencies))

    _, _, timeline, breakdown, *_ = pictures(Facts.read(run))

    assert "pi-22, pi-23, pi-24, pi-25, pi-26, pi-27, pi-28, pi-29" in timeline.alt
    assert timeline.note.endswith("Of 30 devices, the 8 with the highest latency.")
    assert breakdown.note == "Of 30 devices, the 20 with the highest latency."


def test_same_run_gives_the_same_files(tmp_path: Path) -> None:
    run = make_run(tmp_path, run_of(3, {"a": 1.0, "b": 2.0}))

    first, second = (write_report(run) for _ in range(2))

    assert first.html.read_bytes() == second.html.read_bytes()
    assert first.plots == second.plots


@pytest.mark.parametrize(
    "records",
    [
        [closed(1, accuracy=None, loss=None, train_loss=None)],
        [closed(n, accuracy=None, loss=None) for n in (1, 2)] + [reported(1, "a", None)],
        [reported(5, "a")],
        [closed(1, [], accepted=())],
        [reported(n, "a", train_s=0.0, idle_s=0.0, download_s=0.0, upload_s=0.0) for n in range(1, 15)] + [closed(14)],
    ],
    ids=["not evaluated", "no latency", "no round", "nobody", "no time"],
)
@pytest.mark.parametrize("theme", [plots.LIGHT, plots.DARK])
def test_pictures_are_drawn_of_runs_that_lack_something(
    tmp_path: Path, records: list[Record], theme: plots.Theme
) -> None:
    for picture in pictures(Facts.read(make_run(tmp_path, records))):
        assert plots.render(picture.draw, theme, picture.height_in).startswith(PNG)


def test_timeline_puts_many_rounds_into_one_bar_each() -> None:
    records = [reported(number, "a", train_s=float(number)) for number in range(1, 1001)]

    bars = plots._bars(records)

    assert len(bars) == 112  # of 9 rounds each, as 120 bars are the most
    assert bars[0] == (5.0, (5.0, 0.75, 3.0))


def test_timeline_cuts_bars_only_when_a_few_dwarf_the_others() -> None:
    usual = [10.0] * 99

    assert plots._common_limit([*usual, 12.0]) == (12.0 * 1.05, False)
    assert plots._common_limit([*usual, 900.0]) == (1.4 * 10.0, True)
    assert plots._common_limit([]) == (1.0, False)


def test_run_state_is_told_with_what_can_be_done(tmp_path: Path) -> None:
    text = text_of(tmp_path, [happened("started"), closed(1)])

    assert f"Stopped: coordinator resume {RUN_ID}" in text
