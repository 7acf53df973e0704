"""Training on all cores: each task goes to a worker process at once, and its result is waited for only when virtual
time cannot go on without it.

What happens when follows from virtual time alone, never from how fast a worker was, so a run has the same events in
the same order, and the same bytes, as one that trains in this process.
"""

import contextlib
import fcntl
import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from edge_agent.events import StartTraining, TrainingFinished
from edge_agent.trainer import RoomTrainer, RoundTrainer
from learning.datasets import Examples
from learning.threads import use_threads
from schemas.messages import TrainingPlan
from schemas.weights import Weights
from simulation.jobs import Deferred

PIPE_BYTES = 2**20
"""Five models of the CNN, and the most that Linux gives anybody but root."""

_trainers: dict[str, RoomTrainer] = {}
"""Of a worker process: every room, so that any worker can train for any agent."""


@contextlib.contextmanager
def training_pool(
    rooms: Mapping[str, Examples], processes: int, model_path: Path | None = None
) -> Iterator[dict[str, RoundTrainer]]:
    """Trainers, by agent, that work in `processes` other processes; these end with the block."""
    # Not forked: a child of a process that has used torch's threads may wait for them for ever.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, _set_up, (dict(rooms), model_path))
    widen_pipes(pool)
    try:
        yield {agent_id: _PooledTrainer(pool, agent_id, model_path) for agent_id in rooms}
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def widen_pipes(pool: ProcessPoolExecutor) -> None:
    """Let whole models lie in the pool's pipes, so that a worker neither waits for this process to take a result off
    it nor to hand it the next task.

    The standard library has no setting for it. Without leave from the system the pipes stay as they are: all that is
    lost is the 2 % of speed.
    """
    queues: tuple[Any, ...] = (pool._call_queue, pool._result_queue)  # type: ignore[attr-defined]
    for queue in queues:
        with contextlib.suppress(OSError):
            fcntl.fcntl(queue._writer.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)


class DeferredTraining(Deferred):
    """A training under way in another process."""

    def __init__(self, future: "Future[TrainingFinished]", num_batches: int) -> None:
        self._future = future
        self.num_batches = num_batches

    def wait(self) -> TrainingFinished:
        """What came of it; raises what the training raised."""
        return self._future.result()


class _PooledTrainer:
    """One agent's trainer as its service sees it."""

    def __init__(self, pool: ProcessPoolExecutor, agent_id: str, model_path: Path | None) -> None:
        self._pool = pool
        self._agent_id = agent_id
        self._model_path = model_path

    def first_model(self, plan: TrainingPlan) -> Weights:
        """Made in this process, once for all agents."""
        from learning.initialisation import first_weights  # noqa: PLC0415 - needs torch

        return first_weights(plan, self._model_path)

    def train(self, task: StartTraining, should_stop: Callable[[], bool]) -> TrainingFinished:
        """Hand the task over; the result is a `DeferredTraining`, which only virtual jobs understand."""
        del should_stop  # what is not wanted any more is trained all the same, and dropped by the service
        future = self._pool.submit(_train, self._agent_id, task)
        return DeferredTraining(future, task.announcement.plan.local_batches)  # type: ignore[return-value]


def _set_up(rooms: Mapping[str, Examples], model_path: Path | None) -> None:
    # torch takes seconds to load, and the process that hands tasks over does not need it.
    from learning.models import build_model  # noqa: PLC0415

    use_threads(1)
    build = cache(build_model)  # one module for all, which then stays in the processor's cache
    _trainers.update({agent_id: RoomTrainer(agent_id, rooms[agent_id], model_path, build) for agent_id in rooms})


def _train(agent_id: str, task: StartTraining) -> TrainingFinished:
    return _trainers[agent_id].train(task, lambda: False)
