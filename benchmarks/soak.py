"""A run of thousands of rounds in which everything breaks again and again: does anything leak, and what does it cost?

Real processes on a real broker. While the run goes on, agents and coordinator are killed, connections are cut, lines
go dead, the broker is killed and restarted, as `soak_faults.py` has drawn it from the seed; memory, open files and
threads of every party are sampled and judged by the rule of `steadiness.py`.
"""

import shutil
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.figure import Figure

from benchmarks.result import Column, Result, Row, Say
from benchmarks.soak_faults import Fault, Kind, plan_faults
from benchmarks.soak_world import NUM_AGENTS, PARTIES, RUN_ID, TARGETS, World
from benchmarks.steadiness import Sample, Steadiness, judge, take_sample
from coordinator.quarantine import PUT_IN
from coordinator.report.plots import Theme
from coordinator.run_folder import RunFolder, parse_record, read_lines
from coordinator.summary import events_of, refusals, rounds_of
from schemas.errors import FederationError
from schemas.records import RoundRecord

ROUNDS, QUICK_ROUNDS = 2000, 60
EVERY, QUICK_EVERY = 15, 4
SAMPLE_S = 1.0
HEIGHT_IN = 7.5
SAY_EVERY_S = 20.0

_POLL_S = 0.05
_STALLED_S = 180.0
"""A run that closes no round for so long will not close another."""

COLUMNS = (
    Column("party", "party"),
    Column("lives", "lives"),
    Column("rounds_fitted", "rounds fitted"),
    Column("rss_mb", "MB", 1),
    Column("rss_mb_per_1000_rounds", "per 1,000", 2),
    Column("rss_mb_max", "most", 1),
    Column("files", "files"),
    Column("files_per_1000_rounds", "per 1,000", 2),
    Column("files_max", "most"),
    Column("threads", "threads"),
    Column("threads_per_1000_rounds", "per 1,000", 2),
    Column("threads_max", "most"),
    Column("verdict", "verdict"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How long, and which faults.

    Attributes:
        every: rounds from one fault to the next, on average.
    """

    rounds: int = ROUNDS
    seed: int = 1
    every: int = EVERY
    quick: bool = False


@dataclass(slots=True)
class Blow:
    """A fault that was dealt.

    Attributes:
        at_s: since the soak began; over_at_s: when it was over, the restart included.
        next_round_s, all_back_s: from then until the next round was closed, and one with every agent; None for never.
    """

    fault: Fault
    at_s: float
    over_at_s: float | None = None
    next_round_s: float | None = None
    all_back_s: float | None = None

    def note_round(self, now_s: float, num_accepted: int) -> None:
        """A round was closed."""
        if self.over_at_s is None:
            return
        if self.next_round_s is None:
            self.next_round_s = now_s - self.over_at_s
        if self.all_back_s is None and num_accepted == NUM_AGENTS:
            self.all_back_s = now_s - self.over_at_s


@dataclass(slots=True)
class Diary:
    """What was seen.

    Attributes:
        closed: rounds so far; closed_at_s: when the last one was closed.
    """

    began_s: float = field(default_factory=time.monotonic)
    closed: int = 0
    closed_at_s: float = 0.0
    blows: list[Blow] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    offset: int = 0

    @property
    def now_s(self) -> float:
        """Since the soak began."""
        return time.monotonic() - self.began_s

    def read_on(self, record_path: Path) -> None:
        """Take in what was recorded since the last look."""
        if not record_path.exists():
            return
        for line in read_lines(record_path, self.offset):
            self.offset += len(line)
            record = parse_record(line, record_path)
            if isinstance(record, RoundRecord) and record.round_number > self.closed:
                self.closed, self.closed_at_s = record.round_number, self.now_s
                for blow in self.blows:
                    blow.note_round(self.now_s, len(record.accepted))


def run(settings: Settings, folder: Path, say: Say) -> Result:
    """One row per party.

    Raises:
        FederationError: a process ended by itself, or the run closed no round for minutes.
    """
    rounds = min(settings.rounds, QUICK_ROUNDS) if settings.quick else settings.rounds
    every = min(settings.every, QUICK_EVERY) if settings.quick else settings.every
    faults = plan_faults(rounds, every, settings.seed, TARGETS)
    say(f"{rounds} rounds of {NUM_AGENTS} agents with {len(faults)} faults")
    diary = Diary()
    home = folder / "federation"  # stays when something fails: its logs say why
    home.mkdir()
    with World(home, rounds) as world:
        _go_on(world, diary, list(faults), say)
    records = RunFolder.open(world.runs, RUN_ID).records()
    shutil.rmtree(home)
    closed, events = rounds_of(records), events_of(records)
    rows = [row_of(party, diary.samples) for party in PARTIES]
    return Result(
        settings={"rounds": rounds, "seed": settings.seed, "every": every, "agents": NUM_AGENTS},
        rows=rows,
        columns=COLUMNS,
        summary={
            "rounds": len(closed),
            "faults": len(diary.blows),
            "seconds": round(diary.now_s, 1),
            "round_s_median": median(record.duration_s for record in closed),
            "rounds_repeated": sum(event.name == "round-repeated" for event in events),
            "agents_shut_out": sum(event.name == PUT_IN for event in events),
            "refused": {reason: sum(by_agent.values()) for reason, by_agent in refusals(closed).items()},
            "flat": [row["party"] for row in rows if row["verdict"] == "flat"],
            "rising": [row["party"] for row in rows if row["verdict"] == "RISING"],
        },
        details={
            "costs": costs(diary.blows),
            "faults": [asdict(blow.fault) | _times(blow) for blow in diary.blows],
            "samples": [asdict(sample) for sample in diary.samples],
        },
        notes=(
            *in_sentences(costs(diary.blows)),
            "lives: processes, one after the other; levels and slopes are medians of the longest life without",
            "its first half; flat: in 1,000 rounds less than 1 MB or 1 % of memory, less than one file and thread",
        ),
    )


def _go_on(world: World, diary: Diary, faults: list[Fault], say: Say) -> None:
    """Follow the run to its end; deal the faults and take samples as they are due."""
    record_path = world.runs / RUN_ID / "record.jsonl"
    lasting: list[tuple[int, Blow]] = []
    sample_at_s = say_at_s = 0.0
    while not world.finished:
        diary.read_on(record_path)
        now_s = diary.now_s
        if now_s - diary.closed_at_s > _STALLED_S:
            raise FederationError(f"no round was closed for {_STALLED_S:g} s:\n{world.log_tails()}")
        for end in [end for end in lasting if diary.closed >= end[0] or now_s - end[1].at_s > _STALLED_S / 3]:
            lasting.remove(end)
            _end(world, end[1].fault)
            end[1].over_at_s = diary.now_s
        while faults and diary.closed >= faults[0].round_number:
            blow = _deal(world, diary, faults.pop(0))
            if blow.fault.lasts_rounds:
                lasting.append((diary.closed + blow.fault.lasts_rounds, blow))
        if now_s >= sample_at_s:
            sample_at_s = now_s + SAMPLE_S
            taken = [take_sample(party, pid, now_s, diary.closed) for party, pid in world.pids]
            diary.samples += [sample for sample in taken if sample is not None]
        if now_s >= say_at_s:
            say_at_s = now_s + SAY_EVERY_S
            say(f"round {diary.closed}, {len(diary.blows)} faults")
        time.sleep(_POLL_S)
    diary.read_on(record_path)


def _deal(world: World, diary: Diary, fault: Fault) -> Blow:
    blow = Blow(fault, diary.now_s)
    diary.blows.append(blow)
    match fault.kind:
        case Kind.CUT:
            world.lines[fault.target].cut()
        case Kind.HELD:
            world.lines[fault.target].hold()
        case Kind.AGENT_KILLED:
            world.kill_agent(fault.target)
        case Kind.AGENT_SUSPENDED:
            world.suspend(fault.target)
        case Kind.COORDINATOR_KILLED:
            world.kill_coordinator()
        case Kind.BROKER_KILLED:
            world.kill_broker()
        case Kind.BROKER_RESTARTED:
            world.restart_broker()
    if not fault.lasts_rounds:
        blow.over_at_s = diary.now_s
    return blow


def _end(world: World, fault: Fault) -> None:
    if fault.kind is Kind.HELD:
        world.lines[fault.target].release()
    else:
        world.wake(fault.target)


def row_of(party: str, samples: list[Sample]) -> Row:
    """One party's levels, slopes and verdict."""
    own = [sample for sample in samples if sample.party == party]
    steadiness = judge(own)
    row: Row = {"party": party, "lives": steadiness.lives, "rounds_fitted": steadiness.rounds}
    for name, trend in (("rss_mb", steadiness.memory_mb), ("files", steadiness.files), ("threads", steadiness.threads)):
        row |= {
            name: trend.level,
            f"{name}_per_1000_rounds": trend.per_1000_rounds,
            f"{name}_max": max(getattr(sample, name) for sample in own),
        }
    return row | {"verdict": verdict(steadiness)}


def verdict(steadiness: Steadiness) -> str:
    """In a word."""
    return {True: "flat", False: "RISING", None: "too few rounds"}[steadiness.flat]


def costs(blows: list[Blow]) -> dict[str, dict[str, Any]]:
    """For each kind of fault: how many, and seconds until the next round and until every agent was back."""
    out: dict[str, dict[str, Any]] = {}
    for kind in Kind:
        of_kind = [blow for blow in blows if blow.fault.kind is kind]
        if of_kind:
            out[kind.value] = {"times": len(of_kind)}
            for name in ("next_round_s", "all_back_s"):
                values = [value for blow in of_kind if (value := getattr(blow, name)) is not None]
                out[kind.value] |= {
                    f"{name}_median": round(median(values), 2) if values else None,
                    f"{name}_max": round(max(values), 2) if values else None,
                }
    return out


def in_sentences(by_kind: dict[str, dict[str, Any]]) -> list[str]:
    """What `costs` found, a line for each kind of fault."""
    lines = []
    for kind, cost in by_kind.items():
        next_round, all_back = (
            f"{cost[f'{name}_median']} s (longest {cost[f'{name}_max']} s)" for name in ("next_round_s", "all_back_s")
        )
        lines.append(
            f"{kind}, {cost['times']} times: next round after {next_round}, all agents in one after {all_back}"
        )
    return lines


def _times(blow: Blow) -> dict[str, Any]:
    names = ("at_s", "over_at_s", "next_round_s", "all_back_s")
    return {name: getattr(blow, name) for name in names}


def draw(figure: Figure, theme: Theme, result: Result) -> None:
    """Memory, files and threads of every process over the rounds, a line for each life."""
    colours = (theme.compute, theme.muted, theme.communication, theme.highlight, theme.text, "#009e73")
    panels = figure.subplots(3, 1, sharex=True)
    for axes, name, title in zip(
        panels, ("rss_mb", "files", "threads"), ("Memory, MB", "Open files", "Threads"), strict=True
    ):
        for party, colour in zip(PARTIES, colours, strict=True):
            label: str | None = party
            for life in _lives(result, party):
                rounds, values = [sample["rounds"] for sample in life], [sample[name] for sample in life]
                axes.plot(rounds, values, color=colour, linewidth=1, label=label)
                label = None
        axes.set_title(title)
        axes.set_ylim(bottom=0)
    for fault in result.details["faults"]:
        panels[-1].axvline(fault["round_number"], ymax=0.04, color=theme.muted, linewidth=0.6)
    panels[-1].set_xlabel("round; a tick at the bottom is a fault")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)


def _lives(result: Result, party: str) -> list[list[dict[str, Any]]]:
    lives: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for sample in result.details["samples"]:
        if sample["party"] == party:
            lives[sample["pid"]].append(sample)
    return list(lives.values())
