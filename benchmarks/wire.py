"""Packet bytes as we account them against the bytes that the kernel counted on the same sockets in the same run.

And what lies around them: a capture of the same run says what IP and TCP add, and a second run what TLS adds.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.bars import grouped_bars, words_above
from benchmarks.capture import MTU_BYTES, Capture, in_own_network, may_capture
from benchmarks.echo_run import EchoPlan, EchoRun, run_echo
from benchmarks.overhead import model_blob_bytes
from benchmarks.result import Column, Result, Row, Say
from benchmarks.updates import initial_weights
from coordinator.report.plots import Theme

HEIGHT_IN = 3.4
COLUMNS = (
    Column("direction", "direction, all agents"),
    Column("over", "over"),
    Column("payload_bytes", "payload bytes"),
    Column("packet_bytes", "packet bytes (ours)"),
    Column("tcp_bytes", "TCP payload (kernel)"),
    Column("difference", "ours against kernel, %", 4, 100),
    Column("over_payload", "packets over payload, %", 3, 100),
    Column("tls_adds", "TLS adds, %", 3, 100),
    Column("captured_tcp_bytes", "TCP payload (capture)"),
    Column("ip_packets", "IP packets"),
    Column("ip_bytes", "IP bytes (capture)"),
    Column("ip_adds", "IP, TCP add, %", 3, 100),
    Column("ip_over_payload", "IP over payload, %", 3, 100),
)
NO_CAPTURE = "no capture: that needs root (CAP_NET_RAW and CAP_SYS_ADMIN), so what IP adds is left out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How many agents and rounds."""

    agents: int = 5
    rounds: int = 20
    model: str = "cnn"
    quick: bool = False


def run(settings: Settings, folder: Path, say: Say) -> Result:
    """Two rows, one per direction, over plain TCP, and two over TLS."""
    rounds = 4 if settings.quick else settings.rounds
    blob_bytes = model_blob_bytes(initial_weights(settings.model))
    captures = may_capture()
    if not captures:
        say(NO_CAPTURE)
    rows = []
    for over in ("TCP", "TLS"):
        plan = EchoPlan(
            num_agents=settings.agents,
            rounds=rounds,
            model=settings.model,
            model_bytes=blob_bytes,
            over_tls=over == "TLS",
        )
        say(f"{rounds} echo rounds with {settings.agents} agents over {over}")
        measured, capture = captured_run(folder, plan) if captures else (run_echo(folder, plan), None)
        rows += [row_of(measured, direction, over, capture) for direction in ("up", "down")]
    return Result(
        settings={"agents": settings.agents, "rounds": rounds, "model": settings.model, "mtu_bytes": MTU_BYTES},
        rows=rows,
        columns=COLUMNS,
        summary={"difference_max": max(abs(row["difference"]) for row in rows if row["difference"] is not None)},
        notes=(
            "the kernel's numbers are tcpi_bytes_acked and tcpi_bytes_received, which `ss -ti` shows, of all sockets",
            f"captured on a loopback with packets of {MTU_BYTES} bytes, without offloads; empty packets, which only "
            "acknowledge, included; Ethernet adds 14 bytes to each"
            if captures
            else NO_CAPTURE,
        ),
    )


def captured_run(folder: Path, plan: EchoPlan) -> tuple[EchoRun, Capture]:
    """The run in a network of its own, and all packets of it until the last round."""

    def work() -> tuple[EchoRun, Capture]:
        capture = Capture()
        try:
            return run_echo(folder, plan, at_end=capture.close), capture
        finally:
            capture.close()

    return in_own_network(work)


def row_of(measured: EchoRun, direction: str, over: str = "TCP", capture: Capture | None = None) -> Row:
    """What went one way, over all agents and the whole run until the last round."""
    packets = sum(used[f"packet_bytes_{direction}"] for used in measured.agents)
    tcp = sum(used[f"tcp_bytes_{direction}"] for used in measured.agents)
    payload = sum(getattr(report.report, f"payload_bytes_{direction}") for report in measured.reports)
    is_plain = over == "TCP"
    return {
        "direction": direction,
        "over": over,
        "payload_bytes": payload,
        "packet_bytes": packets,
        "tcp_bytes": tcp,
        "difference": packets / tcp - 1 if is_plain else None,
        "over_payload": packets / payload - 1,
        "tls_adds": None if is_plain else tcp / packets - 1,
    } | (_captured(measured, direction, payload, capture) if capture is not None else {})


def _captured(measured: EchoRun, direction: str, payload_bytes: int, capture: Capture) -> dict[str, Any]:
    ports = [port for used in measured.agents for port in used["ports"]]
    pairs = [(port, measured.port) if direction == "up" else (measured.port, port) for port in ports]
    seen = capture.sum_of(pairs)
    return {
        "captured_tcp_bytes": seen.payload_bytes,
        "ip_packets": seen.packets,
        "ip_bytes": seen.ip_bytes,
        "ip_adds": seen.ip_bytes / seen.payload_bytes - 1,
        "ip_over_payload": seen.ip_bytes / payload_bytes - 1,
        "packets_lost_by_the_capture": capture.lost,
    }


def draw(figure: Figure, theme: Theme, result: Result) -> None:
    """The same bytes, counted in four places."""
    axes, rows = figure.subplots(), result.rows
    counts = (
        ("payload", "payload_bytes", theme.idle),
        ("packets, ours", "packet_bytes", theme.compute),
        ("TCP, kernel", "tcp_bytes", theme.communication),
        ("IP, capture", "ip_bytes", theme.highlight),
    )
    shown = counts if all("ip_bytes" in row for row in rows) else counts[:3]
    grouped_bars(axes, rows, [f"{row['direction']}, {row['over']}" for row in rows], shown, 1e-6)
    last = shown[-1][1]
    words_above(axes, rows, last, [f"{row[last] / row['payload_bytes'] - 1:+.1%}" for row in rows], 1e-6)
    axes.set(title="Bytes of all agents, and the last of them over the payload", ylabel="MB")
