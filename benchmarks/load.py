"""How many agents one machine carries: whole rounds of a thousand and more on a real broker with documented limits.

Beside `overhead.py`, which asks what one round costs, this asks what grows with the number of agents: the
coordinator's memory must not, as it keeps a sum and no updates. Nothing may be dropped, refused or disconnected.
"""

from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.figure import Figure

from benchmarks.bars import grouped_bars, words_above
from benchmarks.echo_run import EchoPlan, EchoRun, run_echo
from benchmarks.overhead import agent_cpu_ms, model_blob_bytes
from benchmarks.processes import available_memory_mb
from benchmarks.result import Column, Result, Row, Say
from benchmarks.stamped_coordinator import WARM_UP_ROUNDS
from benchmarks.updates import initial_weights
from coordinator.report.plots import Theme
from coordinator.summary import num_refused
from schemas.errors import ConfigError

AGENTS_PER_PROCESS = 250
MOST_AGENTS_PER_PROCESS = 300
"""paho makes three file descriptors per client, and the usual limit of a process is 1,024."""

HEIGHT_IN = 5.2
FLAT_SHARE = 0.1
"""The coordinator's memory is flat when a further agent costs it less than this share of one model."""

_LIMIT_S = 3600.0
_PROCESS_MB = 60.0
_COORDINATOR_MB = 400.0
_BLOBS_PER_AGENT = 4
"""The agent's model, its update and the socket's buffers on both sides."""

COLUMNS = (
    Column("agents", "agents"),
    Column("processes", "processes"),
    Column("rounds", "rounds"),
    Column("connect_s", "connect s", 1),
    Column("round_s_median", "s a round", 2),
    Column("round_s_max", "longest", 2),
    Column("coordinator_rss_mb", "coord. MB", 1),
    Column("broker_rss_mb", "broker MB", 1),
    Column("agents_rss_mb", "all agents MB"),
    Column("coordinator_cpu_ms_per_agent_round", "coord. CPU ms", 2),
    Column("broker_cpu_ms_per_agent_round", "broker CPU ms", 2),
    Column("agent_cpu_ms_per_round", "agent CPU ms", 2),
    Column("packets_per_agent_round", "packets", 1),
    Column("packet_bytes_per_agent_round", "bytes"),
    Column("refused", "refused"),
    Column("dropped", "dropped"),
    Column("connections_lost", "lost"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to measure.

    Attributes:
        agents: K, one row each.
        rounds: of each row, besides two to warm up; None chooses fewer for more agents.
        model: whose weights travel.
        per_process: agents that share a process.
    """

    agents: tuple[int, ...] = (10, 100, 1000)
    rounds: int | None = None
    model: str = "cnn"
    per_process: int = AGENTS_PER_PROCESS
    quick: bool = False

    def rounds_for(self, num_agents: int) -> int:
        """How many rounds to run with so many agents."""
        most, least = (5, 2) if self.quick else (20, 3)
        return (self.rounds or max(least, min(most, 5000 // num_agents))) + WARM_UP_ROUNDS


def run(settings: Settings, folder: Path, say: Say) -> Result:
    """One row per number of agents, smallest first.

    Raises:
        ConfigError: more agents than this machine's memory holds, or than a process can connect.
    """
    if not 1 <= settings.per_process <= MOST_AGENTS_PER_PROCESS:
        raise ConfigError(f"--per-process {settings.per_process}: a process holds 1 to {MOST_AGENTS_PER_PROCESS}")
    blob_bytes = model_blob_bytes(initial_weights(settings.model))
    rows = []
    for num_agents in sorted(settings.agents):
        plan = EchoPlan(
            num_agents=num_agents,
            rounds=settings.rounds_for(num_agents),
            model=settings.model,
            model_bytes=blob_bytes,
            agents_per_process=settings.per_process,
            limit_s=_LIMIT_S,
        )
        check_memory(plan, available_memory_mb())
        say(f"{num_agents:,} agents in {len(plan.groups)} processes: {plan.rounds} rounds")
        row = row_of(run_echo(folder, plan, say), plan)
        rows.append(row)
        say(
            f"{num_agents:,} agents: connected in {row['connect_s']:.1f} s, {row['round_s_median']:.2f} s a round, "
            f"coordinator {row['coordinator_rss_mb']:.0f} MB, broker {row['broker_rss_mb']:.0f} MB"
        )
    return Result(
        settings={"model": settings.model, "model_bytes": blob_bytes, "warm_up_rounds": WARM_UP_ROUNDS},
        rows=rows,
        columns=COLUMNS,
        summary=summarise(rows, blob_bytes),
        notes=(
            "memory: peaks; CPU, packets and bytes: per agent and round, both ways, connecting included",
            f"flat: a further agent costs the coordinator less than {FLAT_SHARE:.0%} of one model's bytes",
        ),
    )


def check_memory(plan: EchoPlan, available_mb: float) -> None:
    """Refuse what would only end with the kernel killing somebody.

    Raises:
        ConfigError: with what there is, and what it would take.
    """
    blobs_mb = plan.num_agents * _BLOBS_PER_AGENT * plan.model_bytes / 1e6
    queue_mb = min(plan.limits.max_queued_bytes, plan.num_agents * plan.model_bytes) / 1e6
    needed_mb = _COORDINATOR_MB + len(plan.groups) * _PROCESS_MB + blobs_mb + queue_mb
    if needed_mb > available_mb:
        raise ConfigError(
            f"{plan.num_agents:,} agents need about {needed_mb / 1000:.1f} GB of memory, {available_mb / 1000:.1f} GB "
            "are there: take fewer agents or a smaller --model"
        )


def row_of(measured: EchoRun, plan: EchoPlan) -> Row:
    """The numbers of one run; times and CPU without its first rounds."""
    stamps = measured.stamps[WARM_UP_ROUNDS - 1 :]
    rounds, num_agents = len(stamps) - 1, plan.num_agents
    durations_s = [after["at_s"] - before["at_s"] for before, after in pairwise(stamps)]
    spans_s = [used["connected_at_s"] for used in measured.agents]
    packet_bytes = sum(used["packet_bytes_up"] + used["packet_bytes_down"] for used in measured.agents)
    counts, agent_rounds = measured.broker, num_agents * plan.rounds

    def cpu_ms(key: str) -> float:
        return float(stamps[-1][key] - stamps[0][key]) * 1000 / rounds / num_agents

    return {
        "agents": num_agents,
        "processes": len(plan.groups),
        "rounds": rounds,
        "connect_s": max(ready_s for _, ready_s in spans_s) - min(began_s for began_s, _ in spans_s),
        "round_s_median": median(durations_s),
        "round_s_max": max(durations_s),
        "coordinator_rss_mb": measured.coordinator_rss_mb,
        "coordinator_rss_mb_by_round": [stamp["rss_mb"] for stamp in measured.stamps],
        "broker_rss_mb": measured.broker_rss_mb,
        "broker_rss_mb_by_round": [stamp["broker_rss_mb"] for stamp in measured.stamps],
        "agents_rss_mb": sum(used["peak_rss_mb"] for used in measured.agents),
        "coordinator_cpu_ms_per_agent_round": cpu_ms("cpu_s"),
        "broker_cpu_ms_per_agent_round": cpu_ms("broker_cpu_s"),
        "agent_cpu_ms_per_round": agent_cpu_ms(measured.agents),
        "packets_per_agent_round": (counts.packets_received + counts.packets_sent) / agent_rounds,
        "packet_bytes_per_agent_round": packet_bytes / agent_rounds,
        "accepted_per_round": [len(record.accepted) for record in measured.rounds],
        "refused": sum(num_refused(record.refused) for record in measured.rounds),
        "dropped": counts.dropped,
        "connections_lost": sum(sum(used["connections_lost"].values()) for used in measured.agents),
        "connections_lost_because": _reasons(measured.agents),
        "broker_limits": asdict(plan.limits),
    }


def _reasons(processes: list[dict[str, Any]]) -> dict[str, int]:
    reasons: dict[str, int] = {}
    for used in processes:
        for reason, count in used["connections_lost"].items():
            reasons[reason] = reasons.get(reason, 0) + count
    return reasons


def summarise(rows: list[Row], model_bytes: int) -> dict[str, Any]:
    """How the coordinator's memory grows from the smallest number of agents to the largest."""
    first, last = rows[0], rows[-1]
    summary: dict[str, Any] = {
        "every_round_had_every_agent": all(
            accepted == row["agents"] for row in rows for accepted in row["accepted_per_round"]
        ),
    }
    if last["agents"] > first["agents"]:
        growth_mb = last["coordinator_rss_mb"] - first["coordinator_rss_mb"]
        per_agent_bytes = growth_mb * 1e6 / (last["agents"] - first["agents"])
        summary |= {
            "coordinator_rss_growth_mb": round(growth_mb, 3),
            "coordinator_bytes_per_agent": round(per_agent_bytes),
            "coordinator_memory_is_flat": per_agent_bytes < FLAT_SHARE * model_bytes,
        }
    return summary


def draw(figure: Figure, theme: Theme, result: Result) -> None:
    """Memory of all parties against the number of agents, and what a round takes."""
    above, below = figure.subplots(2, 1)
    rows, labels = result.rows, [f"{row['agents']:,}" for row in result.rows]
    memory = (
        ("coordinator", "coordinator_rss_mb", theme.compute),
        ("broker", "broker_rss_mb", theme.idle),
        ("all agents", "agents_rss_mb", theme.communication),
    )
    grouped_bars(above, rows, labels, memory)
    above.set_yscale("log")
    above.set(title="Peak memory", ylabel="MB")
    times = (("connecting all agents", "connect_s", theme.idle), ("one round", "round_s_median", theme.compute))
    grouped_bars(below, rows, labels, times)
    words_above(below, rows, "round_s_median", [f"{row['round_s_median']:.2f} s" for row in rows])
    below.set_yscale("log")
    below.set(title="Time", ylabel="seconds", xlabel="agents")
