"""What a person reads while a run goes on, where there is no terminal."""

import io

import pytest
from rich.console import Console

from coordinator.display import RunDisplay, round_line
from coordinator.events import NoteRefusal
from schemas.errors import Reason
from tests.unit.coordinator.recorded import closed, happened


@pytest.fixture
def console() -> Console:
    """Writes into memory."""
    return Console(file=io.StringIO(), width=160)


@pytest.fixture
def display(console: Console) -> RunDisplay:
    """Of a run that waits for two devices."""
    return RunDisplay(10, console, 2)


def said(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_broker_that_stays_away_is_told_once_per_reason(display: RunDisplay, console: Console) -> None:
    for reason in ("nothing listens", "nothing listens", "no answer"):
        display.on_connection(False, reason)
    display.on_connection(True, "")

    assert said(console) == [
        "cannot connect: nothing listens; trying again (Ctrl-C stops)",
        "cannot connect: no answer; trying again (Ctrl-C stops)",
        "the broker is in reach",
        "connected to the broker; waiting for devices, at least 2",
    ]


def test_refused_login_names_the_keys_to_look_at(display: RunDisplay, console: Console) -> None:
    display.on_connection(False, "127.0.0.1:1883 refused the connection: not authorized")

    assert "broker.username and broker.password_file" in said(console)[1]


def test_flood_of_refusals_is_told_ever_more_rarely(display: RunDisplay, console: Console) -> None:
    for _ in range(9):
        display.on_refusal(NoteRefusal("kitchen", Reason.STALE_ROUND, "round 3 of [1, 2]", 3))

    assert [line.rpartition("(")[2] for line in said(console)][1:] == ["2 so far)", "4 so far)", "8 so far)"]
    assert said(console)[0] == "refused stale-round from kitchen: round 3 of [1, 2]"


def test_rounds_and_events_become_lines_but_arrivals_do_not(display: RunDisplay, console: Console) -> None:
    with display:
        display.on_record(happened("agent-online", agent_id="kitchen"))
        display.on_record(closed(1))
        display.on_record(happened("agent-offline", agent_id="kitchen"))
        display.on_record(happened("finished", detail="after round 1"))

    assert said(console) == [
        "round   1  accuracy  60.00%  training loss 1.0000  2/2 updates    4.00 s",
        "agent-offline kitchen",
        "finished after round 1",
    ]


def test_round_line_leaves_out_what_was_not_measured_and_tells_refusals() -> None:
    line = round_line(closed(7, accuracy=None, train_loss=None, accepted=("a",), refused={"a": {"malformed": 2}}))

    assert line == "round   7  1/2 updates    4.00 s  [yellow]2 refused[/]"
