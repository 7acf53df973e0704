"""The round engine: the coordinator's decisions as a state machine without sockets, clocks, files or threads.

`handle(event, now)` takes one thing that happened and returns what to do about it, in order. The same engine runs
over a broker and in simulation. The phases and the moves between them are in `MOVES`; what each event does is in
the method of its name. A message from the network never raises: it is refused with a reason, counted and answered.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from coordinator.attendance import Attendance
from coordinator.broadcast import Broadcast
from coordinator.claim import CLAIM_AFTER_ONLINE_S, CLAIM_S, Claim, Defeat
from coordinator.deliveries import Deliveries
from coordinator.dispatch import Dispatch
from coordinator.ending import Ending
from coordinator.events import (
    Action,
    AgentAsked,
    AgentSeen,
    CheckpointSaved,
    ChunkArrived,
    ConnectionGained,
    ConnectionLost,
    CoordinatorSeen,
    Evaluated,
    Event,
    FieldsIgnored,
    MessageRefused,
    Proceed,
    Proceeded,
    Released,
    ReportArrived,
    Started,
    StopAsked,
    TimePassed,
    UpdateArrived,
    UpdateOffered,
    WorkFailed,
)
from coordinator.gathering import GATHER_S, Gathering
from coordinator.ledger import Ledger
from coordinator.letters import Letters
from coordinator.members import Members
from coordinator.open_round import OpenRound
from coordinator.opening import Opening
from coordinator.outbox import Outbox
from coordinator.phases import MOVES, Phase
from coordinator.rules import RoundRules
from coordinator.run_state import REMEMBERED_ROUNDS, RunState
from coordinator.selection import Selector, select
from coordinator.strategy import Strategy
from schemas.codecs import rounding_generator
from schemas.identifiers import COORDINATOR_ID
from schemas.measures import Instant, Traffic
from schemas.records import RoundRecord
from schemas.weights import Array, Weights, digest

__all__ = ["CLAIM_AFTER_ONLINE_S", "CLAIM_S", "GATHER_S", "MOVES", "REMEMBERED_ROUNDS", "Phase", "RoundEngine"]

PACKET_SLACK_BYTES = 4096
"""What a packet holds besides a chunk: topic, properties and header."""

LEAST_CHUNK_BYTES = 1024
"""The smallest chunk that an announcement may ask for."""


class RoundEngine:
    """One run's decisions.

    Args:
        rules: see `RoundRules`.
        strategy: how updates become the next model.
        weights: the initial model, or the resumed one.
        session: new at each start of the coordinator, sorting after all earlier ones.
        allowed: the only agents that may take part; None for all that the broker lets in.
        selector: chooses a round's agents.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what makes up a run; two of them have defaults
        self,
        rules: RoundRules,
        strategy: Strategy,
        weights: Weights,
        session: str,
        allowed: frozenset[str] | None = None,
        selector: Selector = select,
    ) -> None:
        broadcast = Broadcast(weights, digest(weights))
        self._run = RunState(rules, session, Members(allowed), weights, broadcast.sha256, broadcast)
        self._out = Outbox(self._run, Letters(rules))
        self._claim = Claim(self._run, self._out)
        self._gathering = Gathering(self._run)
        self._dispatch = Dispatch(self._run, self._out, self._gathering, selector)
        self._attendance = Attendance(self._run, self._out, self._dispatch)
        self._deliveries = Deliveries(self._run, self._out)
        self._strategy = strategy
        self._opening = Opening(self._run, self._out, strategy, self._dispatch)
        self._ledger = Ledger(self._run, self._out)
        self._ending = Ending(self._run, self._out)
        self._traffic_mark = Traffic()
        self._handlers: dict[type, Callable[[Any], None]] = {
            Started: self._on_started,
            ConnectionGained: self._on_connection_gained,
            ConnectionLost: self._on_connection_lost,
            CoordinatorSeen: self._on_coordinator_seen,
            AgentSeen: self._attendance.on_agent_seen,
            AgentAsked: self._on_update(self._attendance.on_agent_asked),
            Released: self._attendance.on_released,
            UpdateArrived: self._on_update(self._deliveries.on_update_arrived),
            UpdateOffered: self._on_update(self._deliveries.on_update_offered),
            ChunkArrived: self._on_update(self._deliveries.on_chunk_arrived),
            ReportArrived: self._on_update(self._deliveries.on_report_arrived),
            MessageRefused: self._on_update(self._on_message_refused),
            FieldsIgnored: self._on_fields_ignored,
            Proceeded: self._on_proceeded,
            CheckpointSaved: self._on_checkpoint_saved,
            Evaluated: self._on_evaluated,
            TimePassed: lambda _event: None,
            StopAsked: self._on_stop_asked,
            WorkFailed: self._on_work_failed,
        }

    @property
    def rules(self) -> RoundRules:
        """The run's rules, with chunks that fit the broker's packets."""
        return self._run.rules

    @property
    def session(self) -> str:
        """This start of the coordinator."""
        return self._run.session

    @property
    def phase(self) -> Phase:
        """Where the run is."""
        return self._run.phase

    @property
    def round_number(self) -> int:
        """The last closed round."""
        return self._run.round_number

    @property
    def members(self) -> Members:
        """All agents that have ever been there."""
        return self._run.members

    @property
    def open_round(self) -> OpenRound | None:
        """The round that is being collected, or None."""
        return self._run.open

    @property
    def model(self) -> Weights:
        """The global model of the last closed round."""
        return self._run.weights

    def handle(self, event: Event, now: Instant) -> list[Action]:
        """Take one event; returns the actions to carry out, in this order."""
        self._run.now = now
        self._out.actions = []
        if self.phase is not Phase.OVER:
            self._handlers[type(event)](event)
            self._do_what_is_due()
        return self._out.actions

    def wake_at_s(self) -> float:
        """Monotonic time at which `TimePassed` is wanted; `math.inf` when nothing is due."""
        if self.phase is Phase.OVER:
            return math.inf
        if not self._run.connected:
            return self._ending.give_up_at_s if self.phase is Phase.ENDING else math.inf
        wake_at_s = self._run.until_s
        if self.phase is Phase.WAITING:
            wake_at_s = min(wake_at_s, self._gathering.wake_at_s)
        if self._run.open is not None:
            wake_at_s = min(wake_at_s, self._run.open.deadline_s, self._run.open.pulls.due_at_s)
        return wake_at_s

    # -- state that survives a crash

    def snapshot(self) -> dict[str, Any]:
        """What a resumed engine needs besides weights and strategy state; plain JSON."""
        return self._run.snapshot()

    def shut_out(self, agents: Iterable[str]) -> None:
        """Before the start: these agents are in quarantine since an earlier session."""
        for agent_id in agents:
            member = self.members.admit(agent_id)
            if member is not None:
                self.members.shut_out(member)

    def restore(self, snapshot: Mapping[str, Any], state: Mapping[str, Array], recorded: RoundRecord | None) -> None:
        """Take over a checkpoint whose weights were given to the constructor.

        Args:
            snapshot: what `snapshot` gave.
            state: the arrays that were saved with them.
            recorded: the round's record, when it was written before the crash; otherwise the round is evaluated
                and recorded again.
        """
        self._run.restore(snapshot, state, recorded)

    # -- connection and other coordinators

    def _on_started(self, _event: Started) -> None:
        self._out.event("resumed" if self._run.resumed else "started", f"after round {self.round_number}")

    def _on_connection_gained(self, event: ConnectionGained) -> None:
        outage_s = 0.0 if self._run.connected else self._run.now_s - self._run.lost_at_s
        if not self._run.connected:
            self._out.event("broker-connected", "")
        self._run.connected = True
        if self.phase is Phase.OFFLINE:
            # A chunk and its header must fit one packet of this broker.
            chunk_bytes = min(self.rules.chunk_bytes, event.max_packet_bytes - PACKET_SLACK_BYTES)
            if chunk_bytes < LEAST_CHUNK_BYTES:
                detail = (
                    f"the broker takes packets of at most {event.max_packet_bytes} bytes, "
                    f"{LEAST_CHUNK_BYTES + PACKET_SLACK_BYTES} are needed: raise max_packet_size"
                )
                self._ending.finish("aborted", detail, say_goodbye=False)
                return
            self._run.rules = self._out.letters.rules = replace(self.rules, chunk_bytes=chunk_bytes)
            self._run.move(Phase.CLAIMING)
        if self.phase is Phase.CLAIMING:
            self._claim.make()
            return
        if self.phase in (Phase.WAITING, Phase.ENDING):
            self._run.until_s += outage_s
        self._out.status()
        if self._run.open is not None:
            self._run.open.deadline_s += outage_s
            self._run.open.pulls.ask_again()
            for agent_id in self._run.open.missing():
                self._out.announce(agent_id)

    def _on_connection_lost(self, _event: ConnectionLost) -> None:
        if self._run.connected:
            self._run.connected = False
            self._run.lost_at_s = self._run.now_s
            self._dispatch.forget_all()
            self._out.event("broker-lost", "")
            self._give_way(self._claim.on_connection_lost())

    def _on_coordinator_seen(self, event: CoordinatorSeen) -> None:
        self._give_way(self._claim.on_coordinator_seen(event))

    def _give_way(self, defeat: Defeat | None) -> None:
        if defeat is not None:
            self._ending.finish(defeat.outcome, defeat.detail, say_goodbye=False)

    def _on_update(self, take: Callable[[Any], None]) -> Callable[[Any], None]:
        """The handler of an event that may be the last one that the round waits for, or may shut somebody out."""

        def handler(event: Any) -> None:
            take(event)
            if self._run.open is not None and self._run.open.may_close_early(self.rules):
                self._close(self._run.open)

        return handler

    def _on_message_refused(self, event: MessageRefused) -> None:
        if event.round_number:
            self._out.refuse_update(event.agent_id, event.round_number, event.reason, event.detail, event.run_id)
        else:
            self._out.refuse_message(event.agent_id, event.reason, event.detail)

    def _on_fields_ignored(self, event: FieldsIgnored) -> None:
        self._out.ignored_fields += event.count

    # -- rounds

    def _do_what_is_due(self) -> None:
        now_s = self._run.now_s
        if self.phase is Phase.CLAIMING and self._run.connected and now_s >= self._run.until_s:
            self._begin()
        if self.phase is Phase.COLLECTING and self._run.open is not None and self._run.connected:
            self._deliveries.ask_for_chunks(self._run.open)
            if now_s >= self._run.open.deadline_s:
                self._at_deadline(self._run.open)
        if self.phase is Phase.WAITING:
            self._open_or_wait()
        if self.phase is Phase.ENDING:
            self._ending.finish_if_due()

    def _begin(self) -> None:
        """No other coordinator answered: the federation is ours."""
        self._out.status()
        self._gathering.begin()
        if "record" in self._run.awaiting:
            self._ledger.take_up()
            self._after_saving()
        elif self._ending.has_come():
            self._ending.begin()
        else:
            self._start_waiting()

    def _start_waiting(self) -> None:
        self._run.move(Phase.WAITING)
        self._run.until_s = self._run.now_s + self.rules.patience_s

    def _open_or_wait(self) -> None:
        if self._run.connected and self._gathering.is_complete():
            self._run.until_s = math.inf
            self._opening.open()
            return
        self._ledger.record()  # nobody is there to be kept waiting by it
        if self._run.connected and self._run.now_s >= self._run.until_s:
            self._ending.finish("aborted", self._gathering.shortage(), say_goodbye=True)

    def _at_deadline(self, open_round: OpenRound) -> None:
        if open_round.meets(self.rules):
            self._close(open_round)
            return
        missing = ", ".join(open_round.missing())
        needed = max(self.rules.min_updates, len(self.rules.required_agents))
        detail = (
            f"{len(open_round.accepted)} of {needed} needed updates in {self.rules.deadline_s:g} s; "
            f"no update from {missing}"
        )
        self._out.event("round-repeated", detail)
        self._note_silence(open_round, "no update before the deadline")
        self._run.open = None
        if self._run.attempt >= self.rules.max_attempts:
            self._ending.finish(
                "aborted",
                f"round {open_round.number} could not be met in {self._run.attempt} attempts: {detail}",
                say_goodbye=True,
            )
            return
        self._run.attempt += 1
        self._run.asked |= open_round.selected
        self._start_waiting()

    def _close(self, open_round: OpenRound) -> None:
        """Make the next global model from exactly the accepted updates."""
        open_round.times.closed_s = self._run.now_s
        self._step(open_round)
        self._run.examples = open_round.aggregator.num_examples
        self._run.round_number = open_round.number
        self._run.attempt, self._run.asked = 1, frozenset()
        self._run.counted = frozenset(open_round.accepted)
        self._run.left_behind = self._note_silence(open_round, "no update before the round closed")
        self._run.remember(open_round)
        self._run.move(Phase.CLOSING)
        self._out.add(Proceed())

    def _step(self, open_round: OpenRound) -> None:
        run, plan = self._run, self.rules.plan
        aggregate = run.broadcast.seen_from(run.weights, open_round.aggregator.result())
        step = self._strategy.step(run.weights, aggregate, run.strategy_state)
        run.weights, run.strategy_state = step.weights, step.state
        sha256 = run.sha256 = digest(run.weights)
        generator = partial(rounding_generator, plan.seed, open_round.number + 1, COORDINATOR_ID)
        run.broadcast = run.broadcast.follow(run.weights, sha256, self.rules.codecs.down, generator)

    def _note_silence(self, open_round: OpenRound, detail: str) -> list[str]:
        """Select nobody who is there and sent nothing, until it is heard from; all whom the round went on without."""
        left_behind = []
        for agent_id in open_round.missing():
            member = self.members.get(agent_id)
            if member is None or not member.online or member.quarantined:
                continue
            left_behind.append(agent_id)
            if agent_id not in open_round.given_up:  # that one sent something
                self.members.hush(member)
                self._out.event("agent-silent", detail, agent_id)
        return left_behind

    def _on_proceeded(self, event: Proceeded) -> None:
        open_round = self._run.open
        if open_round is None:
            return
        if self.phase is Phase.COLLECTING:
            self._ledger.record()  # agents are at work: now there is time for the disk
            self._opening.note(open_round)
        elif self.phase is Phase.CLOSING:
            open_round.times.aggregate_s = self._run.now_s - open_round.times.closed_s
            open_round.times.traffic = event.traffic.since(self._traffic_mark)
            self._traffic_mark = event.traffic.copy()
            self._dispatch.send_ahead()
            self._ledger.save(open_round)

    def _on_checkpoint_saved(self, event: CheckpointSaved) -> None:
        self._ledger.on_checkpoint_saved(event)
        self._after_saving()

    def _on_evaluated(self, event: Evaluated) -> None:
        self._ledger.on_evaluated(event)
        self._after_saving()

    def _after_saving(self) -> None:
        if not self._ledger.complete():
            return
        if self._ending.has_come():
            self._ledger.record()
            self._ending.begin()
        else:
            self._start_waiting()

    # -- the end

    def _on_stop_asked(self, event: StopAsked) -> None:
        self._ending.finish("stopped", event.reason, say_goodbye=self._run.is_ours)

    def _on_work_failed(self, event: WorkFailed) -> None:
        # Agents keep what they have: the run can go on once the cause, such as a full disk, is gone.
        self._ending.finish("stopped", f"{event.what} failed: {event.error}", say_goodbye=True)
