"""What the tests of the page share: a plan, and a look at a run made of these records."""

from collections.abc import Iterable
from typing import Any

from coordinator.summary import Record
from coordinator.web.follower import Sight
from coordinator.web.live_run import LiveRun, live_run
from coordinator.web.plan import Plan, plan_of
from tests.unit.coordinator.recorded import RUN_ID, START, happened

CONFIG: dict[str, Any] = {
    "rounds": {"count": 25, "min_agents": 2, "min_updates": 2, "target_accuracy": 0.9},
    "data": {"dataset": "mnist"},
    "broker": {"host": "broker.example", "username": "coordinator", "password_file": "/etc/secret"},
}


def plan(**rounds: Any) -> Plan:
    return plan_of(RUN_ID, CONFIG | {"rounds": CONFIG["rounds"] | rounds})


def sight(records: Iterable[Record] | LiveRun, *, running: bool = True, **rounds: Any) -> Sight:
    live = records if isinstance(records, LiveRun) else live_run(records)
    return Sight(RUN_ID, CONFIG | {"rounds": CONFIG["rounds"] | rounds}, live, running, "1")


def begun(*agent_ids: str) -> list[Record]:
    """A run that has started, whose broker is there, with these devices."""
    records: list[Record] = [happened("started", START - 3), happened("broker-connected", START - 2)]
    return records + [happened("agent-online", START - 1, agent_id) for agent_id in agent_ids]
