"""Seeded whole runs in which everything goes wrong that can, held against what must be true of every run.

One seed makes one world: its rules, its network's faults, and when which party is killed, cut off, slowed down or has
the power cut. The engines and services are the real ones; the model has three numbers, so that thousands of runs fit
in a minute and every global model can be worked out again from the accepted sets alone.
"""

import gc
import logging
import multiprocessing
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coordinator.engine import CLAIM_S, RoundEngine
from coordinator.rules import RoundRules
from coordinator.service import CoordinatorService, Score
from coordinator.service import Outside as CoordinatorOutside
from coordinator.strategies import make_strategy
from schemas import wire
from schemas.codecs import parse_codecs
from schemas.identifiers import COORDINATOR_ID
from schemas.measures import Instant
from schemas.messages import CoordinatorStatus, TrainingPlan
from schemas.topics import Address, Kind, Topics
from schemas.weights import Weights
from simulation.arithmetic import FIRST
from simulation.connection import VirtualTransport
from simulation.disk import MemoryDisk
from simulation.faults import Faults
from simulation.folder_disk import FolderDisk
from simulation.network import VirtualNetwork
from simulation.party import add_agent
from simulation.promises import (
    BrokenPromiseError,
    Promises,
    WatchedSpool,
    WatchedTrainer,
    WatchedTransport,
    check_end,
)
from transport.ports import Message, SessionSpec

RUN_ID = "chaos"
FILES_EVERY = 10
"""One world in so many has a coordinator with real files, half-written ones included: they cost more than memory."""

_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - below it a folder of our own is made; elsewhere each sync costs milliseconds

MAX_VIRTUAL_S = 48 * 3600.0
TROUBLE_S = 900.0
"""After so much virtual time nothing more goes wrong, so that a run must come to its end."""

SLOWEST_S = 300.0
"""Of one training: ten times the shortest deadline."""

AGENTS = (*[5] * 18, 6, 7)
ROUNDS = (*[5] * 19, 6)
"""Of a world, mostly the fewest with which everything can happen: more worlds find more than larger ones do."""

CODECS = ("fp32", "fp32", "int8", "int4,stochastic/ternary:0.5", "fp32/int8", "topk:0.4,int8/fp32")
"""Of runs: plain ones, and some in which a codec loses a lot."""

PLAN = TrainingPlan(model="three", local_batches=1, batch_size=1, learning_rate=1.0, seed=0)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one seed came to.

    Attributes:
        outcome: of the run.
        rounds: closed.
        faults: that were injected on purpose, the network's own not counted.
        broken: the promise that did not hold, or empty.
    """

    seed: int
    outcome: str
    rounds: int
    faults: int
    broken: str = ""


def run_seed(seed: int) -> Finding:
    """One world from its seed to the end of its run; never raises for a broken promise."""
    if seed % FILES_EVERY:
        return _finding(World(seed))
    with tempfile.TemporaryDirectory(dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None) as folder:
        return _finding(World(seed, disk=FolderDisk(Path(folder), RUN_ID)))


def _finding(world: "World") -> Finding:
    broken = ""
    try:
        world.run()
        world.check()
    except Exception as error:
        broken = f"{type(error).__name__}: {error}"
    finally:
        world.disk.close()
    return Finding(world.seed, world.outcome, len(world.disk.rounds()), world.faults, broken)


@dataclass(slots=True)
class _Room:
    """An agent's lasting part: what survives its process."""

    agent_id: str
    batch_s: float
    spool: WatchedSpool
    trainer: WatchedTrainer
    transport: VirtualTransport | None = None
    starts: int = 0


class World:
    """One run and everything that goes wrong in it.

    Args:
        seed: makes the rules, the network's faults and the strikes.
        rounds: of the run, drawn when not given; `trouble_s`: until when things go wrong.
        strikes: at random moments in that time, besides five that always hit the run.
        disk: the coordinator's; in memory when not given.
    """

    def __init__(
        self,
        seed: int,
        rounds: int | None = None,
        trouble_s: float = TROUBLE_S,
        strikes: int | None = None,
        disk: MemoryDisk | None = None,
    ) -> None:
        self.seed = seed
        self.rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
        self.disk = MemoryDisk() if disk is None else disk
        self.promises = Promises(self.disk)
        self.topics = Topics()
        self.trouble_s = trouble_s
        self.num_rounds = self.rng.choice(ROUNDS) if rounds is None else rounds
        self.num_strikes = self.rng.randint(0, 5) if strikes is None else strikes
        self.faults = 0
        self.service: CoordinatorService | None = None
        self.coordinator: VirtualTransport | None = None
        self.sessions = 0
        self.rules = self._rules(self.rng.choice(AGENTS))
        self.network = VirtualNetwork(seed, self._network_faults(), start=Instant(0.0, 1.7e9))

    @property
    def outcome(self) -> str:
        return self.service.outcome if self.service is not None else ""

    @property
    def over(self) -> bool:
        """True when nobody could go on with the run, or nobody should."""
        service = self.service  # asked at every step
        return bool(self.promises.broken) or (service is not None and service.outcome in ("finished", "aborted"))

    def run(self) -> None:
        self._start_coordinator()
        for room in self.rooms:
            self._start_agent(room)
        # No run can be over before this: five strikes always hit it, others may.
        soonest_s = CLAIM_S + self.rules.rounds * min(room.batch_s for room in self.rooms)
        moments = [self.rng.uniform(0.1, soonest_s) for _ in range(5)]
        moments += [self.rng.uniform(0.5, self.trouble_s) for _ in range(self.num_strikes)]
        for moment in moments:
            self.network.at(moment, self._strike)
        if not self.network.run(until=lambda: self.over, max_virtual_s=MAX_VIRTUAL_S):
            raise BrokenPromiseError(f"the run came to no end in {MAX_VIRTUAL_S / 3600:g} virtual hours")

    def check(self) -> None:
        """Hold the run against what must be true."""
        if self.promises.broken:
            raise BrokenPromiseError(self.promises.broken)
        for room in self.rooms:
            self._is_there(room)
        detail = self.service.detail if self.service is not None else ""
        check_end(self.outcome, detail, self.rules, self.promises)

    # -- the world's make-up

    def _rules(self, num_agents: int) -> RoundRules:
        rng = self.rng
        self.rooms = [self._room(f"room-{i}") for i in range(1, num_agents + 1)]
        min_updates = rng.randint(1, num_agents)
        return RoundRules(
            run_id=RUN_ID,
            plan=PLAN,
            rounds=self.num_rounds,
            min_agents=rng.randint(min_updates, num_agents),
            min_updates=min_updates,
            quorum=rng.choice([None, None, rng.randint(min_updates, num_agents)]),
            fraction=rng.choice([1.0, 1.0, 0.6]),
            deadline_s=rng.choice([30.0, 90.0, 300.0]),
            max_attempts=1000,
            patience_s=24 * 3600.0,
            chunk_bytes=rng.choice([8 * 1024 * 1024, 1024]),
            codecs=parse_codecs(rng.choice(CODECS)),
        )

    def _room(self, agent_id: str) -> _Room:
        batch_s = self.rng.choice([0.1, 1.0, 5.0, 20.0])
        return _Room(agent_id, batch_s, WatchedSpool(agent_id, self.promises), WatchedTrainer(agent_id, self.promises))

    def _network_faults(self) -> Faults:
        rng = self.rng
        return Faults(
            cut=rng.choice([0.0, 0.005, 0.02]),
            duplicate=rng.choice([0.0, 0.05, 0.3]),
            drop=rng.choice([0.0, 0.02, 0.1]),
            delay_s=rng.choice([0.0, 0.5, 5.0]),
            partition_every_s=rng.choice([60.0, 200.0, 1e6]),
            restart_every_s=rng.choice([100.0, 300.0, 1e6]),
            until_s=self.trouble_s,
        )

    # -- what goes wrong on purpose

    def _strike(self) -> None:
        if self.over:
            return
        strikes: list[Callable[[], bool]] = [
            self._kill_coordinator,
            self._kill_coordinator,
            self._kill_agent,
            self._kill_agent,
            self._kill_agent,
            self._cut_agent,
            self._slow_down,
            self._fill_disk,
            self._jump_clock,
        ]
        # The first that finds something to break; slowing an agent down always does.
        self.faults += any(strike() for strike in self.rng.sample(strikes, len(strikes)))

    def _kill_coordinator(self) -> bool:
        if self.coordinator is None or not self.network.is_present(self.coordinator):
            return False  # it is down already, or has stopped by itself: its disk is full
        self.network.crash(self.coordinator, silently=self.rng.random() < 0.5)
        self.coordinator = None
        self.disk.crash(self.rng, power_cut=self.rng.random() < 0.5)
        self._later(self._start_coordinator)
        return True

    def _fill_disk(self) -> bool:
        if self.disk.full or self.disk.full_for_rounds:
            return False
        if self.rng.random() < 0.5:
            self.disk.full = True
        else:
            self.disk.full_for_rounds = True  # the next round is announced by then
        self._later(self._free_disk)
        return True

    def _free_disk(self) -> None:
        self.disk.full = self.disk.full_for_rounds = False
        if self.outcome == "stopped":
            self.disk.crash(self.rng, power_cut=self.rng.random() < 0.5)
            self._start_coordinator()

    def _kill_agent(self) -> bool:
        room = self._any_room()
        if room.transport is None:
            return False
        self.network.crash(room.transport, silently=self.rng.random() < 0.5)
        room.transport = None
        self._later(lambda: self._start_agent(room))
        return True

    def _cut_agent(self) -> bool:
        room = self._any_room()
        if room.transport is None:
            return False
        self.network.cut(room.transport)
        return True

    def _slow_down(self) -> bool:
        room = self._any_room()
        room.batch_s = min(room.batch_s * self.rng.choice([10.0, 100.0]), SLOWEST_S)
        return True

    def _jump_clock(self) -> bool:
        party = self.rng.choice([room.transport for room in self.rooms] + [self.coordinator])
        if party is None or not self.network.is_present(party):
            return False
        self.network.set_clock(party, self.rng.uniform(-1e5, 1e5))
        return True

    def _any_room(self) -> _Room:
        room = self.rng.choice(self.rooms)
        self._is_there(room)
        return room

    def _is_there(self, room: _Room) -> None:
        if room.transport is not None and not self.network.is_present(room.transport):
            raise BrokenPromiseError(f"{room.agent_id} ended by itself")

    def _later(self, action: Callable[[], None]) -> None:
        self.network.at(self.network.clock().monotonic_s + self.rng.uniform(0.1, 120.0), action)

    # -- starting and restarting parties

    def _start_agent(self, room: _Room) -> None:
        room.starts += 1
        room.transport = add_agent(
            self.network,
            self.topics,
            room.trainer,
            room.agent_id,
            room.spool,
            lambda _name, _result: room.batch_s,
            instance=f"{room.agent_id}-{room.starts}",
        )

    def _start_coordinator(self) -> None:
        self.sessions += 1
        saved = self.disk.latest()
        weights: Weights = saved.weights if saved is not None else FIRST
        session = f"session-{self.sessions}"
        engine = RoundEngine(self.rules, make_strategy(PLAN), weights, session)
        if saved is not None:
            engine.restore(saved.snapshot, saved.state, self.disk.rounds().get(saved.round_number))
        gone = CoordinatorStatus(state="offline", session=session, run_id=RUN_ID)
        will = Message(self.topics.build(Address(Kind.COORDINATOR_STATUS)), wire.encode(gone, 0), retain=True)
        name = f"{COORDINATOR_ID}-{RUN_ID}"
        transport = self.network.transport(SessionSpec(name, tuple(self.topics.coordinator_filters()), will))
        jobs = self.network.jobs(lambda _name, _result: self.rng.choice([0.0, 0.1, 3.0]))
        outside = CoordinatorOutside(
            self.topics,
            WatchedTransport(transport, self.topics, self.promises),
            jobs,
            self.disk,
            lambda _weights: Score(0.0, 0.0),
            self.network.clock,
        )
        self.service = CoordinatorService(engine, outside)
        self.coordinator = transport
        self.network.add(self.service, transport, jobs)


def run_seeds(seeds: range, processes: int, on_finding: Callable[[Finding], None]) -> None:
    """Run many seeds on several processes; findings come in the seeds' order."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, initializer=_quietly) as pool:
        for finding in pool.imap(run_seed, seeds, chunksize=25):
            on_finding(finding)


def _quietly() -> None:
    """A world full of faults would fill the log with warnings that nobody reads, and is gone before it is garbage."""
    logging.disable(logging.CRITICAL)
    gc.freeze()
    gc.set_threshold(100_000)
