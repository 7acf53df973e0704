"""What the page may know of a run's configuration: a few keys, chosen one by one, as the rest names secrets' places."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Plan:
    """What was planned.

    Attributes:
        rounds: at most so many.
        expected: devices that should take part, as far as the configuration names any.
        measures_accuracy: there is a test set.
        facts: words for the engineer's view, in order.
    """

    run_id: str
    rounds: int
    min_agents: int
    min_updates: int
    deadline_s: float | None
    target_accuracy: float | None
    expected: tuple[str, ...]
    measures_accuracy: bool
    facts: tuple[tuple[str, str], ...]


def plan_of(run_id: str, config: Mapping[str, Any]) -> Plan:
    """The plan in a run's config.json, with defaults for what an older or damaged one lacks."""
    rounds, training, data = (_table(config.get(key)) for key in ("rounds", "training", "data"))
    expected = {*_names(rounds.get("required_agents")), *_names(rounds.get("allowed_agents"))}
    return Plan(
        run_id=run_id,
        rounds=_count(rounds.get("count"), 0),
        min_agents=_count(rounds.get("min_agents"), 1),
        min_updates=_count(rounds.get("min_updates"), 1),
        deadline_s=_number(rounds.get("deadline_s")),
        target_accuracy=_number(rounds.get("target_accuracy")),
        expected=tuple(sorted(expected)),
        measures_accuracy=data.get("dataset") != "none",
        facts=_facts(training, rounds, data, _table(config.get("plan"))),
    )


def _facts(
    training: Mapping[str, Any], rounds: Mapping[str, Any], data: Mapping[str, Any], sent: Mapping[str, Any]
) -> tuple[tuple[str, str], ...]:
    chosen = {
        "Model": training.get("model"),
        "Test set": data.get("dataset"),
        "Strategy": training.get("strategy"),
        "Codec": training.get("codec"),
        "Local batches (E)": training.get("local_batches"),
        "Batch size (B)": training.get("batch_size"),
        "Learning rate": sent.get("learning_rate", training.get("learning_rate")),
        "Seed": training.get("seed"),
        "Rounds, at most": rounds.get("count"),
        "Target accuracy": rounds.get("target_accuracy"),
        "Deadline": f"{rounds['deadline_s']:g} s" if isinstance(rounds.get("deadline_s"), int | float) else None,
    }
    return tuple((name, str(value)) for name, value in chosen.items() if value is not None)


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _names(value: Any) -> list[str]:
    return [str(name) for name in value] if isinstance(value, list) else []


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _count(value: Any, otherwise: int) -> int:
    return int(_number(value) or otherwise)
