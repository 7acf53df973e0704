"""Where every device's time goes over many rounds on a real broker, and which one the others wait for.

The agents are real processes that train; the run is the demo's, on MNIST by digit pairs.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.result import Column, Result, Row, Say
from coordinator.demo import DemoSettings, load_demo_data, run_demo
from coordinator.events import NoteRefusal
from coordinator.report.plots import Theme
from coordinator.run_folder import RunFolder
from coordinator.summary import (
    DeviceSummary,
    Straggler,
    find_straggler,
    latencies_by_round,
    reports_of,
    rounds_of,
    summarise_devices,
)
from schemas.records import DeviceRecord, RoundRecord, RunEvent

HEIGHT_IN = 5.4
QUICK_ROUNDS = 4
SAY_EVERY = 10
COLUMNS = (
    Column("agent_id", "device"),
    Column("rounds_accepted", "rounds"),
    Column("train_s", "compute ms", 1, 1000),
    Column("communication_s", "comm. ms", 1, 1000),
    Column("idle_s", "idle ms", 1, 1000),
    Column("latency_s", "latency ms", 1, 1000),
    Column("communication_share", "comm. share, %", 1, 100),
    Column("straggler", "straggler"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How many rounds and devices."""

    rounds: int = 100
    devices: int = 5
    local_batches: int = 10
    quick: bool = False


class _Progress:
    """Says now and then how far the run is."""

    def __init__(self, rounds: int, say: Say) -> None:
        self._rounds, self._say = rounds, say

    def on_record(self, record: RoundRecord | DeviceRecord | RunEvent) -> None:
        """Count rounds."""
        if isinstance(record, RoundRecord) and record.round_number % SAY_EVERY == 0:
            self._say(f"round {record.round_number} of {self._rounds}")

    def on_refusal(self, refusal: NoteRefusal) -> None:
        """Counted in the records."""

    def on_connection(self, connected: bool, reason: str) -> None:
        """Of no interest."""


def run(settings: Settings, folder: Path, say: Say) -> Result:
    """One row per device."""
    rounds = min(settings.rounds, QUICK_ROUNDS) if settings.quick else settings.rounds
    demo = DemoSettings(
        runs_folder=folder / "runs", rounds=rounds, devices=settings.devices, local_batches=settings.local_batches
    )
    dataset, name = load_demo_data(demo)
    say(f"{rounds} rounds of {settings.devices} agent processes on {name}")
    done = run_demo(demo, dataset, name, lambda _config: _Progress(rounds, say))
    run_dir = Path(done.run_dir)
    records = RunFolder.open(run_dir.parent, run_dir.name).records()
    straggler = find_straggler(latencies_by_round(records))
    devices = summarise_devices(records)
    rows = [row_of(device, straggler) for device in devices]
    durations_s = [record.duration_s for record in rounds_of(records)]
    return Result(
        settings={"rounds": rounds, "devices": settings.devices, "local_batches": settings.local_batches, "data": name},
        rows=rows,
        columns=COLUMNS,
        summary={
            "straggler": straggler.agent_id if straggler else None,
            "round_s_mean": fmean(durations_s),
            "communication_share": fmean(row["communication_share"] for row in rows),
        },
        details={
            "rounds": [
                {
                    "round": report.round_number,
                    "agent_id": report.agent_id,
                    "train_s": report.report.train_s,
                    "communication_s": report.report.download_s + report.report.upload_s,
                    "idle_s": report.report.idle_s,
                }
                for report in reports_of(records)
            ],
        },
        references={"study": "its Figure 4: five Raspberry Pi 4s, 100 rounds, one of them visibly slower"},
        notes=(f"run {done.run_id} in {run_dir.parent}: `coordinator report` draws all of it",),
    )


def row_of(device: DeviceSummary, straggler: Straggler | None) -> Row:
    """A device's means per round."""
    train_s, idle_s = device.train_s or 0.0, device.idle_s or 0.0
    communication_s = (device.download_s or 0.0) + (device.upload_s or 0.0)
    whole_s = train_s + communication_s + idle_s
    return {
        "agent_id": device.agent_id,
        "rounds_accepted": device.rounds_accepted,
        "train_s": train_s,
        "communication_s": communication_s,
        "idle_s": idle_s,
        "latency_s": device.latency_s,
        "communication_share": communication_s / whole_s if whole_s else 0.0,
        "straggler": "waited for" if straggler is not None and straggler.agent_id == device.agent_id else "",
    }


def draw(figure: Figure, theme: Theme, result: Result) -> None:
    """Stacked bars: the mean per device, and every round of each device below."""
    above, below = figure.subplots(2, 1)
    parts = (
        ("compute", "train_s", theme.compute),
        ("communication", "communication_s", theme.communication),
        ("idle", "idle_s", theme.idle),
    )
    names = [row["agent_id"] for row in result.rows]
    base = [0.0] * len(names)
    for label, key, colour in parts:
        values = [row[key] * 1000 for row in result.rows]
        above.barh(names, values, left=base, color=colour, label=label)
        base = [start + value for start, value in zip(base, values, strict=True)]
    straggler = result.summary["straggler"]
    above.set(title=f"Mean round of each device; waited for: {straggler or 'nobody in particular'}", xlabel="ms")
    above.invert_yaxis()
    above.legend(loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=3)
    shown = straggler or names[0]
    rounds = [entry for entry in result.details["rounds"] if entry["agent_id"] == shown]
    base = [0.0] * len(rounds)
    for _label, key, colour in parts:
        values = [entry[key] * 1000 for entry in rounds]
        below.bar([entry["round"] for entry in rounds], values, 1.0, bottom=base, color=colour)
        base = [start + value for start, value in zip(base, values, strict=True)]
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    below.set(title=f"Every round of {shown}", xlabel="round", ylabel="ms")
