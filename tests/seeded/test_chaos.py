"""Seeded worlds full of faults, in each of which every promise must hold; `coordinator chaos` runs more of them."""

import logging
import os
from collections.abc import Mapping, Set
from typing import Any

import pytest

from simulation.chaos import Finding, World, run_seeds

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SEEDS = 10_000


def test_every_promise_holds_when_everything_goes_wrong() -> None:
    findings: list[Finding] = []
    # One process more than there are cores: worlds with real files wait for the disk now and then.
    run_seeds(range(SEEDS), (os.cpu_count() or 1) + 1, findings.append)
    broken = [f"seed {finding.seed}: {finding.broken}" for finding in findings if finding.broken]
    assert broken == []
    finished = [finding for finding in findings if finding.outcome == "finished"]
    assert len(finished) > 0.9 * SEEDS
    assert min(finding.rounds for finding in finished) >= 5
    assert min(finding.faults for finding in findings) >= 5


def test_memory_is_bounded_when_a_run_with_faults_goes_on_and_on() -> None:
    logging.disable(logging.CRITICAL)
    world = World(seed=3, rounds=240, trouble_s=5000.0, strikes=100)
    sizes: dict[int, int] = {}

    def weigh() -> None:
        if world.service is not None and not world.over:
            # What is open, such as updates on their way, comes and goes: the smallest size of a round counts.
            size, number = elements(world.service.engine), world.service.engine.round_number
            sizes[number] = min(size, sizes.get(number, size))
            world.network.at(world.network.clock().monotonic_s + 10.0, weigh)

    world.network.at(10.0, weigh)
    world.run()
    logging.disable(logging.NOTSET)

    world.check()
    early = max(size for number, size in sizes.items() if 80 <= number < 120)
    late = max(size for number, size in sizes.items() if number >= 200)
    assert late < 1.1 * early


def elements(thing: object) -> int:
    """How many objects of ours something is made of, and what they hold, in elements and characters."""
    seen: set[int] = set()
    waiting: list[object] = [thing]
    count = 0
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        count += 1
        waiting += parts(current)
        count += len(current) // 16 if isinstance(current, str | bytes) else 0
    return count


def parts(thing: Any) -> list[object]:
    """What an object is made of."""
    if isinstance(thing, Mapping):
        return [*thing.keys(), *thing.values()]
    if isinstance(thing, list | tuple | Set):
        return list(thing)
    if not type(thing).__module__.startswith(("coordinator", "schemas", "edge_agent")):
        return []
    named = {name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())}
    return [getattr(thing, name) for name in named if hasattr(thing, name)] + list(
        vars(thing).values() if hasattr(thing, "__dict__") else ()
    )
