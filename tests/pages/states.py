"""Made-up runs in every state that the page can be found in."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.pages.made_up_runs import MadeUpRun, ended_now, new_folder

ROOMS = [f"room-{number}" for number in range(1, 6)]
THOUSAND = [f"room-{number}" for number in range(1, 1001)]

Make = Callable[[Path, ExitStack], MadeUpRun]
"""Makes a run below a folder; locks that make it look as if it were running go onto the stack."""


def waiting(root: Path, stack: ExitStack) -> MadeUpRun:
    """Two rooms of the three that are needed."""
    folder = new_folder(root, "run-waiting")
    stack.enter_context(folder.lock())
    run = MadeUpRun(folder, ROOMS[:2], time.time() - 60)
    run.begin()
    return run


def running(root: Path, stack: ExitStack) -> MadeUpRun:
    """Eleven rounds, and the twelfth under way with two reports."""
    folder = new_folder(root, "run-running")
    stack.enter_context(folder.lock())
    run = MadeUpRun(folder, ROOMS, ended_now(ROOMS, 12))
    run.begin()
    run.rounds(11)
    run.now_s = time.time() - 20
    run.open_round()
    run.report("room-2")
    run.report("room-4")
    return run


def failing(root: Path, stack: ExitStack) -> MadeUpRun:
    """One device is gone, one sends what cannot be used, one is too warm, one is slow; a stranger knocks."""
    folder = new_folder(root, "run-failing")
    stack.enter_context(folder.lock())
    run = MadeUpRun(folder, ROOMS, ended_now(ROOMS, 10))
    run.begin()
    run.rounds(6)
    run.slow("room-2", 1.5)
    run.now_s += 3
    run.event("agent-offline", "room-3")
    there = [room for room in ROOMS if room != "room-3"]
    for _ in range(3):
        run.open_round()
        warm = {"room-5": {"cpu_temperature_c": 83.0, "throttled": True}}
        latency_s = max(run.report(room, **warm.get(room, {})) for room in there)
        refused = {"room-4": {"non-finite": 1}, "unknown": {"unknown-agent": 2}}
        run.close_round([room for room in there if room != "room-4"], latency_s, refused)
    return run


def outage(root: Path, stack: ExitStack) -> MadeUpRun:
    """The broker is out of reach."""
    folder = new_folder(root, "run-outage")
    stack.enter_context(folder.lock())
    run = MadeUpRun(folder, ROOMS, ended_now(ROOMS, 8))
    run.begin()
    run.rounds(7)
    run.event("broker-lost")
    return run


def broken(root: Path, _stack: ExitStack) -> MadeUpRun:
    """The coordinator was killed."""
    folder = new_folder(root, "run-broken")
    with folder.lock():
        run = MadeUpRun(folder, ROOMS, ended_now(ROOMS, 8))
        run.begin()
        run.rounds(7)
        run.open_round()
    return run


def finished(root: Path, _stack: ExitStack) -> MadeUpRun:
    """All rounds, a day ago."""
    folder = new_folder(root, "run-finished")
    with folder.lock():
        run = MadeUpRun(folder, ROOMS, ended_now(ROOMS, 25) - 86400)
        run.begin()
        run.rounds(25)
        run.event("finished", detail="after round 25, test accuracy 96.4%")
    return run


def thousand(root: Path, stack: ExitStack, rounds: int = 30) -> MadeUpRun:
    """A thousand devices, seven of them gone, and a round under way."""
    folder = new_folder(root, "run-thousand", rounds=100)
    stack.enter_context(folder.lock())
    run = MadeUpRun(folder, THOUSAND, ended_now(THOUSAND, rounds + 1))
    run.begin()
    run.rounds(rounds)
    for room in THOUSAND[100:107]:
        run.event("agent-offline", room)
    run.now_s = time.time() - 15
    run.open_round()
    for room in THOUSAND[300:700]:
        run.report(room)
    return run


STATES: dict[str, Make] = {
    make.__name__: make for make in (waiting, running, failing, outage, broken, finished, thousand)
}
