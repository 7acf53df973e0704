"""Training in other processes: the same events and bytes as in this one, failures included."""

import fcntl
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.config import RunConfig
from coordinator.run_folder import RunFolder
from coordinator.summary import reports_of, rounds_of
from learning.datasets import Examples
from simulation.jobs import Deferred, VirtualJobs
from simulation.pool import PIPE_BYTES, widen_pipes
from simulation.runner import World, simulate
from simulation.schedule import Schedule
from transport.ports import Event, JobDone


def room(seed: int) -> Examples:
    rng = np.random.default_rng(seed)
    return Examples(rng.integers(0, 256, (64, 1, 28, 28), np.uint8), rng.integers(0, 10, 64), 10, "noise")


def config(folder: Path, run_id: str) -> RunConfig:
    options = {
        "run_id": run_id,
        "runs_folder": folder,
        "training": {"local_batches": 2},
        "rounds": {"count": 2, "min_agents": 3, "min_updates": 3},
        "data": {"dataset": "none"},
    }
    return RunConfig.model_validate(options)


@pytest.mark.timeout(120)
def test_rounds_have_the_same_bytes_and_times_when_other_processes_train(tmp_path: Path) -> None:
    rooms = {f"room-{i}": room(i) for i in range(3)}

    inline = simulate(config(tmp_path, "inline"), rooms)
    pooled = simulate(config(tmp_path, "pooled"), rooms, World(processes=2))

    assert pooled.model_sha256 == inline.model_sha256
    records = [RunFolder.open(tmp_path, name).records() for name in ("inline", "pooled")]
    digests = [[r.model_sha256 for r in rounds_of(found)] for found in records]
    assert digests[0] == digests[1]
    latencies = [[(r.round_number, r.agent_id, r.latency_s) for r in reports_of(found)] for found in records]
    assert latencies[0] == latencies[1]


class Failing(Deferred):
    def wait(self) -> object:
        raise ValueError("no luck")


class Slow(Deferred):
    def __init__(self, log: list[str], name: str) -> None:
        self._log, self._name = log, name

    def wait(self) -> str:
        self._log.append(f"waited for {self._name}")
        return self._name


def jobs_of(schedule: Schedule, duration_s: float, events: list[Event]) -> VirtualJobs:
    jobs = VirtualJobs(schedule, lambda _name, _result: duration_s)
    jobs.attach(events.append)
    return jobs


def run_out(schedule: Schedule) -> None:
    while schedule.next_s() < float("inf"):
        schedule.step()


def test_deferred_results_are_waited_for_in_the_order_of_virtual_time() -> None:
    schedule, events = Schedule(), list[Event]()
    log: list[str] = []

    def start(name: str) -> Slow:
        log.append(f"started {name}")
        return Slow(log, name)

    jobs_of(schedule, 2.0, events).submit("late", lambda: start("late"))
    jobs_of(schedule, 1.0, events).submit("early", lambda: start("early"))
    run_out(schedule)

    assert log == ["started late", "started early", "waited for early", "waited for late"]
    assert events == [JobDone("early", result="early"), JobDone("late", result="late")]


def test_failure_of_deferred_work_becomes_the_jobs_error() -> None:
    schedule, events = Schedule(), list[Event]()
    jobs_of(schedule, 1.0, events).submit("train", Failing)
    run_out(schedule)

    (done,) = events
    assert isinstance(done, JobDone)
    assert str(done.error) == "no luck"


def test_pipes_in_both_directions_hold_whole_models() -> None:
    with ProcessPoolExecutor(1) as pool:
        widen_pipes(pool)
        queues: tuple[Any, ...] = (pool._call_queue, pool._result_queue)  # type: ignore[attr-defined]
        sizes = [fcntl.fcntl(queue._reader.fileno(), fcntl.F_GETPIPE_SZ) for queue in queues]

    assert sizes == [PIPE_BYTES, PIPE_BYTES]
