"""Packet bytes as we account them against the bytes that the kernel counted on the same sockets in the same run."""

from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.bars import grouped_bars, words_above
from benchmarks.echo_run import EchoPlan, EchoRun, run_echo
from benchmarks.overhead import model_blob_bytes
from benchmarks.result import Column, Result, Row, Say
from benchmarks.updates import initial_weights
from coordinator.report.plots import Theme

HEIGHT_IN = 2.8
COLUMNS = (
    Column("direction", "direction, all agents"),
    Column("payload_bytes", "payload bytes"),
    Column("packet_bytes", "packet bytes (ours)"),
    Column("tcp_bytes", "TCP payload (kernel)"),
    Column("difference", "ours against kernel, %", 4, 100),
    Column("over_payload", "packets over payload, %", 3, 100),
    Column("ethernet_bytes", "with TCP/IP, Ethernet"),
    Column("ethernet_over_payload", "over payload, %", 2, 100),
)
MSS_BYTES = 1448
HEADERS_BYTES = 14 + 20 + 32
"""Ethernet, IPv4, TCP with timestamps, per segment of at most `MSS_BYTES`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How many agents and rounds."""

    agents: int = 5
    rounds: int = 20
    model: str = "cnn"
    quick: bool = False


def run(settings: Settings, folder: Path, say: Say) -> Result:
    """One row per direction."""
    rounds = 4 if settings.quick else settings.rounds
    say(f"{rounds} echo rounds with {settings.agents} agents over plain TCP")
    blob_bytes = model_blob_bytes(initial_weights(settings.model))
    plan = EchoPlan(num_agents=settings.agents, rounds=rounds, model=settings.model, model_bytes=blob_bytes)
    measured = run_echo(folder, plan)
    rows = [row_of(measured, direction) for direction in ("up", "down")]
    return Result(
        settings={"agents": settings.agents, "rounds": rounds, "model": settings.model},
        rows=rows,
        columns=COLUMNS,
        summary={"difference_max": max(abs(row["difference"]) for row in rows)},
        notes=(
            "the kernel's numbers are tcpi_bytes_acked and tcpi_bytes_received, which `ss -ti` shows, of all sockets",
            f"with TCP/IP, Ethernet: worked out for segments of {MSS_BYTES} bytes and {HEADERS_BYTES} bytes of headers",
        ),
    )


def row_of(measured: EchoRun, direction: str) -> Row:
    """What went one way, over all agents and the whole run until the last round."""
    packets = sum(used[f"packet_bytes_{direction}"] for used in measured.agents)
    tcp = sum(used[f"tcp_bytes_{direction}"] for used in measured.agents)
    payload = sum(getattr(report.report, f"payload_bytes_{direction}") for report in measured.reports)
    ethernet = tcp + -(-tcp // MSS_BYTES) * HEADERS_BYTES
    return {
        "direction": direction,
        "payload_bytes": payload,
        "packet_bytes": packets,
        "tcp_bytes": tcp,
        "difference": packets / tcp - 1,
        "over_payload": packets / payload - 1,
        "ethernet_bytes": ethernet,
        "ethernet_over_payload": ethernet / payload - 1,
    }


def draw(figure: Figure, theme: Theme, result: Result) -> None:
    """The same bytes, counted in three places."""
    axes, rows = figure.subplots(), result.rows
    counts = (
        ("payload", "payload_bytes", theme.idle),
        ("packets, ours", "packet_bytes", theme.compute),
        ("TCP, kernel", "tcp_bytes", theme.communication),
    )
    grouped_bars(axes, rows, [row["direction"] for row in rows], counts, 1e-6)
    words_above(axes, rows, "tcp_bytes", [f"{row['difference']:+.3%}" for row in rows], 1e-6)
    axes.set(title="Bytes of all agents, as we and as the kernel count them", ylabel="MB")
