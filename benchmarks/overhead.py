"""What the system itself costs: rounds of agents that echo the model, beside the floor of the same messages alone.

Checkpoints with their fsync, metrics, checks and the exact mean are all on; training and evaluation are off.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.figure import Figure

from benchmarks.bars import grouped_bars, words_above
from benchmarks.echo_run import EchoPlan, EchoRun, run_echo
from benchmarks.floor import floor_of, measure_exchanges
from benchmarks.result import Column, Result, Row, Say
from benchmarks.stamped_coordinator import WARM_UP_ROUNDS
from coordinator.report.plots import Theme
from learning.models import build_model
from learning.parameters import get_weights
from schemas import wire
from schemas.messages import BlobHeader
from schemas.weights import Weights, encode

HEIGHT_IN = 5.2
FLOWER = {
    "what": "Flower 1.41, deployment engine, 5 clients, the same echo workload, same kind of machine, quiet",
    "round_s": 6.8,
    "client_cpu_s": 1.7,
    "server_cpu_s": 1.5,
    "payload_factor_up": 1.26,
    "rss_mb": 600,
}
COLUMNS = (
    Column("agents", "agents"),
    Column("rounds", "rounds"),
    Column("round_s_median", "ms a round", 1, 1000),
    Column("floor_s_median", "floor ms", 1, 1000),
    Column("floor_ratio", "times floor", 2),
    Column("floor_mb_per_s", "floor MB/s"),
    Column("coordinator_cpu_ms_per_agent_round", "coord. CPU ms", 2),
    Column("agent_cpu_ms_per_round", "agent CPU ms", 2),
    Column("broker_cpu_ms_per_agent_round", "broker CPU ms", 2),
    Column("packet_bytes_up", "bytes up"),
    Column("packet_bytes_down", "bytes down"),
    Column("packet_factor", "times blobs", 4),
    Column("coordinator_rss_mb", "coord. MB", 1),
    Column("agent_rss_mb", "agent proc. MB", 1),
    Column("broker_rss_mb", "broker MB", 1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to measure.

    Attributes:
        agents: K, one row each.
        rounds: of each row; None chooses fewer for more agents.
    """

    agents: tuple[int, ...] = (5, 50, 200, 1000)
    rounds: int | None = None
    model: str = "cnn"
    quick: bool = False

    def rounds_for(self, num_agents: int) -> int:
        """How many rounds to run with so many agents."""
        if self.rounds is not None:
            return self.rounds + WARM_UP_ROUNDS
        most, least = (12, 3) if self.quick else (60, 4)
        return max(least, min(most, 1500 // num_agents)) + WARM_UP_ROUNDS


def run(settings: Settings, folder: Path, say: Say) -> Result:
    """One row per number of agents, smallest first."""
    weights = get_weights(build_model(settings.model, seed=0))
    blob_bytes = model_blob_bytes(weights)
    rows = []
    for num_agents in sorted(settings.agents):
        rounds = settings.rounds_for(num_agents)
        exchanges = max(3, min(40, 400 // num_agents))
        say(f"floor: {exchanges} exchanges of {blob_bytes:,} bytes between {num_agents} bare clients")
        times_s = measure_exchanges(folder, num_agents, blob_bytes, exchanges)
        plan = EchoPlan(num_agents=num_agents, rounds=rounds, model=settings.model, model_bytes=blob_bytes)
        say(f"system: {rounds} rounds with {num_agents} agents")
        measured = run_echo(folder, plan)
        say("floor once more, as the machine may have become busier")
        times_s += measure_exchanges(folder, num_agents, blob_bytes, exchanges)
        rows.append(row_of(measured, num_agents, blob_bytes, times_s))
    return Result(
        settings={"agents": list(settings.agents), "model": settings.model, "warm_up_rounds": WARM_UP_ROUNDS},
        rows=rows,
        columns=COLUMNS,
        summary=summarise(rows),
        references={"flower": FLOWER},
        notes=(
            "packet bytes are whole MQTT packets per agent and round; up to 50 agents each has a process of its own,",
            "beyond that 50 share one; the floor was measured before and after the rounds, both together count",
        ),
    )


def model_blob_bytes(weights: Weights) -> int:
    """Bytes of one weight blob as it travels."""
    header = BlobHeader(
        kind="update",
        run_id="echo",
        round_number=1,
        sender="echo-0000",
        base_sha256="0" * 64,
        num_examples=100,
        num_batches=1,
        loss=0.5,
    )
    return len(encode(weights, wire.encode(header)))


def row_of(measured: EchoRun, num_agents: int, payload_bytes: int, floor_times_s: list[float]) -> Row:
    """The numbers of one run, without its first rounds."""
    floor = floor_of(floor_times_s, num_agents, payload_bytes)
    stamps = measured.stamps[WARM_UP_ROUNDS - 1 :]
    rounds = len(stamps) - 1
    durations_s = [after["at_s"] - before["at_s"] for before, after in pairwise(stamps)]
    late = [r.report for r in measured.reports if r.round_number > WARM_UP_ROUNDS]
    up, down = (median(getattr(r, f"packet_bytes_{way}") for r in late) for way in ("up", "down"))
    round_s = median(durations_s)
    return {
        "agents": num_agents,
        "rounds": rounds,
        "round_s_median": round_s,
        "round_s_max": max(durations_s),
        "floor_s_median": floor.exchange_s_median,
        "floor_mb_per_s": floor.megabytes_per_s,
        "floor_ratio": round_s / floor.exchange_s_median,
        "coordinator_cpu_ms_per_agent_round": _used(stamps, "cpu_s") * 1000 / rounds / num_agents,
        "broker_cpu_ms_per_agent_round": _used(stamps, "broker_cpu_s") * 1000 / rounds / num_agents,
        "agent_cpu_ms_per_round": agent_cpu_ms(measured.agents),
        "packet_bytes_up": up,
        "packet_bytes_down": down,
        "payload_bytes": payload_bytes,
        "packet_factor": (up + down) / (2 * payload_bytes),
        "coordinator_rss_mb": measured.coordinator_rss_mb,
        "agent_rss_mb": median(used["peak_rss_mb"] for used in measured.agents),
        "agents_per_process": max(used["agents"] for used in measured.agents),
        "broker_rss_mb": measured.broker_rss_mb,
        "phase_s": {
            name: median(getattr(r, name) for r in measured.rounds[WARM_UP_ROUNDS:])
            for name in ("broadcast_s", "wait_s", "aggregate_s", "checkpoint_s", "duration_s")
        },
    }


def agent_cpu_ms(processes: list[dict[str, Any]]) -> float:
    """CPU milliseconds of one agent in one round, from the second round's training to the last one's."""
    spent_s, agent_rounds = 0.0, 0
    for used in processes:
        at = {int(number): cpu_s for number, cpu_s in used["cpu_s_at"].items()}
        first, last = min(WARM_UP_ROUNDS, max(at)), max(at)
        spent_s += at[last] - at[first]
        agent_rounds += (last - first) * used["agents"]
    return spent_s * 1000 / agent_rounds if agent_rounds else float("nan")


def _used(stamps: list[dict[str, Any]], key: str) -> float:
    return float(stamps[-1][key] - stamps[0][key])


def summarise(rows: list[Row]) -> dict[str, Any]:
    """Ratios: to the floor, to Flower, and how memory grows with the agents."""
    first, last = rows[0], rows[-1]
    summary = {
        "floor_ratio": {str(row["agents"]): round(row["floor_ratio"], 3) for row in rows},
        "coordinator_rss_growth_mb": last["coordinator_rss_mb"] - first["coordinator_rss_mb"],
        "packet_factor_max": max(row["packet_factor"] for row in rows),
    }
    if first["agents"] == 5:
        summary["flower_round_ratio"] = FLOWER["round_s"] / first["round_s_median"]
    return summary


def draw(figure: Figure, theme: Theme, result: Result) -> None:
    """Seconds per round beside the floor, and CPU per agent and round."""
    above, below = figure.subplots(2, 1)
    rows, labels = result.rows, [f"{row['agents']}" for row in result.rows]
    times = (("floor", "floor_s_median", theme.idle), ("round", "round_s_median", theme.compute))
    grouped_bars(above, rows, labels, times, 1000)
    words_above(above, rows, "round_s_median", [f"{row['floor_ratio']:.1f}x" for row in rows], 1000)
    above.set_yscale("log")
    above.yaxis.set_major_formatter("{x:,.0f}")
    above.set(title="One echo round, and the same messages between bare clients", ylabel="milliseconds")
    parts = (
        ("coordinator", "coordinator_cpu_ms_per_agent_round", theme.compute),
        ("agent", "agent_cpu_ms_per_round", theme.communication),
        ("broker", "broker_cpu_ms_per_agent_round", theme.idle),
    )
    grouped_bars(below, rows, labels, parts)
    below.set(title="CPU per agent and round", ylabel="milliseconds", xlabel="agents")
