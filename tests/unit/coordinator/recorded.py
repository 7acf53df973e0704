"""Records of made-up runs, with as little to say as a test needs."""

from collections.abc import Iterable, Mapping
from typing import Any

from schemas.messages import AgentReport
from schemas.records import DeviceRecord, RoundRecord, RunEvent

RUN_ID = "run-1"
START = 1_700_000_000.0
"""Of round 1; each later round starts ten seconds after the one before."""


def started_at(round_number: int) -> float:
    return START + 10.0 * (round_number - 1)


def closed(round_number: int, agents: Iterable[str] = ("a", "b"), **changes: Any) -> RoundRecord:
    """A closed round, in which all `agents` were selected and accepted unless `changes` say otherwise."""
    names = tuple(agents)
    values: dict[str, Any] = {
        "run_id": RUN_ID,
        "round_number": round_number,
        "attempt": 1,
        "started_at": started_at(round_number),
        "selected": names,
        "accepted": names,
        "refused": {},
        "ignored_fields": 0,
        "duration_s": 4.0,
        "broadcast_s": 0.1,
        "wait_s": 2.0,
        "aggregate_s": 0.2,
        "checkpoint_s": 0.3,
        "evaluate_s": 1.0,
        "num_examples": 100 * len(names),
        "train_loss": 1.0 / round_number,
        "loss": 2.0 / round_number,
        "accuracy": min(0.99, 0.5 + 0.1 * round_number),
        "model_sha256": f"{round_number:064x}",
        "payload_bytes_up": 1000,
        "payload_bytes_down": 2000,
        "packet_bytes_up": 1100,
        "packet_bytes_down": 2200,
    }
    return RoundRecord(**values | changes)


def reported(round_number: int, agent_id: str, latency_s: float | None = 2.0, **changes: Any) -> DeviceRecord:
    """A device's report; `changes` go into it."""
    values: dict[str, Any] = {
        "download_s": 0.25,
        "train_s": 1.0,
        "upload_s": 0.5,
        "idle_s": 3.0,
        "batches": 10,
        "examples": 100,
        "loss": 0.5,
        "payload_bytes_up": 900,
        "payload_bytes_down": 800,
        "packet_bytes_up": 1000,
        "packet_bytes_down": 850,
        "cpu_s": 1.5,
        "peak_rss_bytes": 300_000_000,
    }
    return DeviceRecord(
        run_id=RUN_ID,
        round_number=round_number,
        agent_id=agent_id,
        started_at=started_at(round_number),
        latency_s=latency_s,
        report=AgentReport(**values | changes),
    )


def happened(
    name: str, at: float = START, agent_id: str | None = None, round_number: int = 0, detail: str = ""
) -> RunEvent:
    return RunEvent(run_id=RUN_ID, at=at, name=name, round_number=round_number, agent_id=agent_id, detail=detail)


def run_of(num_rounds: int, latencies: Mapping[str, float]) -> list[RoundRecord | DeviceRecord | RunEvent]:
    """A whole run in which each device takes the same time in every round."""
    records: list[RoundRecord | DeviceRecord | RunEvent] = [happened("started", START - 2)]
    records += [happened("agent-online", START - 1, agent_id) for agent_id in latencies]
    for number in range(1, num_rounds + 1):
        records += [reported(number, agent_id, value) for agent_id, value in latencies.items()]
        records.append(closed(number, latencies))
    records.append(happened("finished", started_at(num_rounds) + 4, round_number=num_rounds))
    return records
