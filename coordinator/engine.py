"""The round engine: the coordinator's decisions as a state machine without sockets, clocks, files or threads.

`handle(event, now)` takes one thing that happened and returns what to do about it, in order. The same engine runs
over a broker and in simulation. The phases and the moves between them are in `MOVES`; what each event does is in
the method of its name. A message from the network never raises: it is refused with a reason, counted and answered.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any, Final

from coordinator.events import (
    Action,
    AgentAsked,
    AgentSeen,
    CheckpointSaved,
    ChunkArrived,
    ConnectionGained,
    ConnectionLost,
    CoordinatorSeen,
    End,
    Evaluate,
    Evaluated,
    Event,
    FieldsIgnored,
    MessageRefused,
    NoteRefusal,
    Proceed,
    Proceeded,
    Record,
    ReportArrived,
    RoundTimes,
    SaveCheckpoint,
    Started,
    StopAsked,
    TimePassed,
    UpdateArrived,
    UpdateOffered,
    WorkFailed,
)
from coordinator.letters import Letters
from coordinator.members import UNKNOWN, Members
from coordinator.open_round import OpenRound
from coordinator.pulls import Pulls
from coordinator.rules import RoundRules
from coordinator.screening import Expected, screen
from coordinator.selection import Selector, select
from coordinator.strategy import Strategy
from schemas.errors import PayloadError, Reason
from schemas.measures import Instant, Traffic
from schemas.messages import ChunksWanted, CoordinatorStatus, ModelOffer, Receipt, Standing
from schemas.records import DeviceRecord, RoundRecord, RunEvent
from schemas.versions import CURRENT
from schemas.weights import Array, Weights, digest

REMEMBERED_ROUNDS = 64
"""Reports of rounds longer ago than this are refused."""

PACKET_SLACK_BYTES = 4096
"""What a packet holds besides a chunk: topic, properties and header."""

LEAST_CHUNK_BYTES = 1024
"""The smallest chunk that an announcement may ask for."""

GATHER_S = 10.0
"""How long a resumed run waits for as many agents as it began with, before fewer will do."""

CLAIM_S = 0.3
"""How long a coordinator that starts listens for another one; longer when a status says that there was one."""

CLAIM_AFTER_ONLINE_S = 2.0


class Phase(StrEnum):
    """Where a run is."""

    OFFLINE = "offline"  # not yet connected for the first time
    CLAIMING = "claiming"  # is there another coordinator?
    WAITING = "waiting"  # for enough agents
    COLLECTING = "collecting"  # a round is open
    CLOSING = "closing"  # the aggregate is made
    SAVING = "saving"  # checkpoint and evaluation are under way
    ENDING = "ending"  # the last reports may still come
    OVER = "over"


MOVES: Final[Mapping[Phase, frozenset[Phase]]] = {
    Phase.OFFLINE: frozenset({Phase.CLAIMING, Phase.OVER}),
    Phase.CLAIMING: frozenset({Phase.WAITING, Phase.SAVING, Phase.ENDING, Phase.OVER}),
    Phase.WAITING: frozenset({Phase.COLLECTING, Phase.OVER}),
    Phase.COLLECTING: frozenset({Phase.CLOSING, Phase.WAITING, Phase.OVER}),
    Phase.CLOSING: frozenset({Phase.SAVING, Phase.OVER}),
    Phase.SAVING: frozenset({Phase.WAITING, Phase.ENDING, Phase.OVER}),
    Phase.ENDING: frozenset({Phase.OVER}),
    Phase.OVER: frozenset(),
}
"""The transition table; any other move is a defect."""


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
        self.rules = rules
        self.phase = Phase.OFFLINE
        self.round_number = 0
        """The last closed round."""
        self.members = Members(allowed)
        self._strategy = strategy
        self._select = selector
        self._letters = Letters(rules)
        self._weights = weights
        self._sha256 = digest(weights)
        self._state: Mapping[str, Array] = {}
        self.session = session
        self._open: OpenRound | None = None
        self._attempt = 1
        self._asked: frozenset[str] = frozenset()
        self._examples = 0
        self._closed: RoundRecord | None = None
        self._durable_round = 0
        self._counted: frozenset[str] = frozenset()
        self._left_behind: list[str] = []
        self._unreported: set[str] = set()
        self._gather_until_s = -math.inf
        self._awaiting: set[str] = set()
        self._closed_at_s = 0.0
        self._opened_s = 0.0
        self._started_at: dict[int, float] = {}
        self._latencies_s: dict[tuple[int, str], float] = {}
        self._refused: dict[str, dict[str, int]] = {}
        self._ignored_fields = 0
        self._traffic_mark = Traffic()
        self._connected = False
        self._lost_at_s = 0.0
        self._until_s = math.inf
        self._resumed = False
        self._now = Instant(0.0, 0.0)
        self._actions: list[Action] = []
        self._handlers: dict[type, Callable[[Any], None]] = {
            Started: self._on_started,
            ConnectionGained: self._on_connection_gained,
            ConnectionLost: self._on_connection_lost,
            CoordinatorSeen: self._on_coordinator_seen,
            AgentSeen: self._on_agent_seen,
            AgentAsked: self._on_agent_asked,
            UpdateArrived: self._on_update_arrived,
            UpdateOffered: self._on_update_offered,
            ChunkArrived: self._on_chunk_arrived,
            ReportArrived: self._on_report_arrived,
            MessageRefused: self._on_message_refused,
            FieldsIgnored: self._on_fields_ignored,
            Proceeded: self._on_proceeded,
            CheckpointSaved: self._on_checkpoint_saved,
            Evaluated: self._on_evaluated,
            TimePassed: lambda _event: None,
            StopAsked: self._on_stop_asked,
            WorkFailed: self._on_work_failed,
        }

    @property
    def open_round(self) -> OpenRound | None:
        """The round that is being collected, or None."""
        return self._open

    @property
    def model(self) -> Weights:
        """The global model of the last closed round."""
        return self._weights

    def handle(self, event: Event, now: Instant) -> list[Action]:
        """Take one event; returns the actions to carry out, in this order."""
        self._now = now
        self._actions = []
        if self.phase is not Phase.OVER:
            self._handlers[type(event)](event)
            self._do_what_is_due()
        return self._actions

    def wake_at_s(self) -> float:
        """Monotonic time at which `TimePassed` is wanted; `math.inf` when nothing is due."""
        if self.phase is Phase.OVER:
            return math.inf
        if not self._connected:
            return self._lost_at_s + self.rules.patience_s if self.phase is Phase.ENDING else math.inf
        moments = [self._until_s]
        if self.phase is Phase.WAITING and self._now.monotonic_s < self._gather_until_s:
            moments.append(self._gather_until_s)
        if self._open is not None:
            moments.append(self._open.deadline_s)
            pull_at_s = self._open.pulls.wake_at_s
            if pull_at_s is not None:
                moments.append(pull_at_s)
        return min(moments)

    # -- state that survives a crash

    def snapshot(self) -> dict[str, Any]:
        """What a resumed engine needs besides weights and strategy state; plain JSON."""
        recent = sorted(self._started_at)[-REMEMBERED_ROUNDS:]
        return {
            "run_id": self.rules.run_id,
            "round_number": self.round_number,
            "model_sha256": self._sha256,
            "num_examples": self._examples,
            "members": self.members.snapshot(self.round_number, self._counted),
            "started_at": {str(number): self._started_at[number] for number in recent},
            "closed": self._closed.model_dump(mode="json") if self._closed else None,
        }

    def restore(self, snapshot: Mapping[str, Any], state: Mapping[str, Array], recorded: RoundRecord | None) -> None:
        """Take over a checkpoint whose weights were given to the constructor.

        Args:
            snapshot: what `snapshot` gave.
            state: the strategy's state.
            recorded: the round's record, when it was written before the crash; otherwise the round is evaluated
                and recorded again.
        """
        self._resumed = True
        self._state = state
        self.round_number = self._durable_round = snapshot["round_number"]
        self._examples = snapshot["num_examples"]
        self.members.restore(snapshot["members"])
        self._started_at = {int(number): at for number, at in snapshot["started_at"].items()}
        if recorded is not None:
            self._closed = recorded
        elif snapshot["closed"] is not None:
            self._closed = RoundRecord.model_validate_json(json.dumps(snapshot["closed"]))
            self._awaiting = {"evaluation"} if self.rules.evaluate else set()
            self._awaiting.add("record")

    # -- connection and other coordinators

    def _on_started(self, _event: Started) -> None:
        self._event("resumed" if self._resumed else "started", f"after round {self.round_number}")

    def _on_connection_gained(self, event: ConnectionGained) -> None:
        outage_s = 0.0 if self._connected else self._now.monotonic_s - self._lost_at_s
        self._connected = True
        if self.phase is Phase.OFFLINE:
            # A chunk and its header must fit one packet of this broker.
            chunk_bytes = min(self.rules.chunk_bytes, event.max_packet_bytes - PACKET_SLACK_BYTES)
            if chunk_bytes < LEAST_CHUNK_BYTES:
                detail = (
                    f"the broker takes packets of at most {event.max_packet_bytes} bytes, "
                    f"{LEAST_CHUNK_BYTES + PACKET_SLACK_BYTES} are needed: raise max_packet_size"
                )
                self._finish("aborted", detail, say_goodbye=False)
                return
            self.rules = self._letters.rules = replace(self.rules, chunk_bytes=chunk_bytes)
            self._move(Phase.CLAIMING)
        if self.phase is Phase.CLAIMING:
            self._until_s = self._now.monotonic_s + CLAIM_S
            self._publish_status(claim=True)
            return
        if self.phase in (Phase.WAITING, Phase.ENDING):
            self._until_s += outage_s
        self._publish_status()
        if self._open is not None:
            self._open.deadline_s += outage_s
            for agent_id in self._open.missing():
                self._announce(agent_id)

    def _on_connection_lost(self, _event: ConnectionLost) -> None:
        if self._connected:
            self._connected = False
            self._lost_at_s = self._now.monotonic_s

    def _on_coordinator_seen(self, event: CoordinatorSeen) -> None:
        other = event.status
        if other.session == self.session:
            return
        if self.phase is Phase.CLAIMING:
            if event.retained:
                # It may be long dead: give it more time to answer our claim.
                if other.state == "online":
                    self._until_s = max(self._until_s, self._now.monotonic_s + CLAIM_AFTER_ONLINE_S)
            elif other.answers == self.session:
                self._refuse_to_start(other)
            elif other.claim and other.session > self.session:
                # Both have just started: the earlier one stays.
                self._publish_status(answers=other.session)
        elif other.claim:
            self._publish_status(answers=other.session)
        elif event.retained or other.answers is not None:
            return
        elif other.state == "online" and other.session > self.session:
            detail = f"another coordinator (session {other.session}) took over this federation"
            self._finish("stopped", detail, say_goodbye=False)
        else:
            # An earlier one that was stopped for a while, or the last words of one that is gone: ours is the status.
            self._publish_status()

    def _refuse_to_start(self, other: CoordinatorStatus) -> None:
        run = f", run {other.run_id}" if other.run_id else ""
        detail = (
            f"another coordinator (session {other.session}{run}) is running on this federation: stop it, or use "
            "another topic prefix"
        )
        self._finish("aborted", detail, say_goodbye=False)

    # -- agents

    def _on_agent_seen(self, event: AgentSeen) -> None:
        member = self.members.admit(event.agent_id)
        if member is None:
            self._refuse(event.agent_id, Reason.UNKNOWN_AGENT, "not on the list of this run's agents")
            return
        if event.retained and event.status.state == "online":
            # The retained status of an agent that may be gone: it will answer our own status if it is there.
            return
        if event.status.state == "offline":
            if member.online and event.status.instance == member.instance:
                member.online = False
                self._unreported.discard(event.agent_id)
                self._letters.minor = self.members.lowest_minor(CURRENT.minor)
                self._event("agent-offline", "", event.agent_id)
            return
        if not member.online or member.instance != event.status.instance:
            self._event("agent-online", "", event.agent_id)
        member.instance = event.status.instance
        self._greet(event.agent_id, event.minor)

    def _on_agent_asked(self, event: AgentAsked) -> None:
        if self.members.admit(event.agent_id) is None:
            self._refuse(event.agent_id, Reason.UNKNOWN_AGENT, "not on the list of this run's agents")
            return
        request, open_round = event.request, self._open
        wants_model = request.want != "state" and open_round is not None and request.round is not None
        if not wants_model or open_round is None or request.round is None:
            self._greet(event.agent_id, event.minor)
            return
        ours = (request.round.run_id, request.round.round_number) == (self.rules.run_id, open_round.number)
        if not ours or not open_round.takes_part(event.agent_id):
            self._greet(event.agent_id, event.minor)
        elif request.want == "model" and open_round.offer.blob_sha256 is None:
            self._actions.append(self._letters.model(open_round, event.agent_id))
        else:
            self._actions += self._letters.model_chunks(open_round, event.agent_id, request.first, request.count)

    def _greet(self, agent_id: str, minor: int) -> None:
        """An agent is there: tell it what is wanted from it now."""
        member = self.members.get(agent_id)
        if member is None:
            return
        member.online, member.silent, member.minor = True, False, min(minor, CURRENT.minor)
        self._letters.minor = self.members.lowest_minor(CURRENT.minor)
        if self.phase is Phase.CLAIMING:
            return
        if self._open is not None and self._open.wants(agent_id):
            self._announce(agent_id)
        else:
            self._send_standing(agent_id, "waiting")

    # -- updates

    def _on_update_arrived(self, event: UpdateArrived) -> None:
        if self._may_deliver(event.agent_id, event.run_id, event.round_number):
            self._take_update(event.agent_id, event.payload)

    def _on_update_offered(self, event: UpdateOffered) -> None:
        if not self._may_deliver(event.agent_id, event.run_id, event.round_number) or self._open is None:
            return
        if not 0 < event.offer.size_bytes <= self.rules.max_model_bytes:
            detail = f"{event.offer.size_bytes} bytes offered, at most {self.rules.max_model_bytes} are read"
            self._refuse_update(event.agent_id, event.round_number, Reason.TOO_LARGE, detail)
            return
        try:
            self._open.pulls.offer(event.agent_id, event.offer)
        except PayloadError as error:
            self._refuse_update(event.agent_id, event.round_number, error.reason, error.detail)

    def _on_chunk_arrived(self, event: ChunkArrived) -> None:
        if not self._may_deliver(event.agent_id, event.run_id, event.round_number) or self._open is None:
            return
        try:
            blob = self._open.pulls.add(event.agent_id, event.index, event.payload)
        except PayloadError as error:
            self._refuse(event.agent_id, error.reason, error.detail)
            return
        if blob is not None:
            self._open.pulls.drop(event.agent_id)
            self._take_update(event.agent_id, blob)

    def _may_deliver(self, agent_id: str, run_id: str, round_number: int) -> bool:
        """The checks that need no look inside: member, run, round, selected, not counted yet."""
        member = self.members.get(agent_id)
        if member is None:
            self._refuse(agent_id, Reason.UNKNOWN_AGENT, "an update from an agent that never announced itself")
            return False
        member.silent = False
        if run_id != self.rules.run_id:
            self._refuse_update(agent_id, round_number, Reason.WRONG_RUN, f"the run is {self.rules.run_id}", run_id)
            return False
        counted = 0 < round_number == member.last_accepted_round or self._was_counted(agent_id, round_number)
        if self._open is not None and round_number == self._open.number:
            counted = agent_id in self._open.accepted
            if not self._open.takes_part(agent_id):
                self._refuse_update(agent_id, round_number, Reason.NOT_SELECTED, "not selected for this round")
                return False
        elif not counted and self._is_next(round_number):
            return False
        elif not counted:
            closed = round_number <= self.round_number
            reason = Reason.STALE_ROUND if closed else Reason.FUTURE_ROUND
            self._refuse_update(agent_id, round_number, reason, f"round {self.round_number} is the last closed one")
            return False
        if counted:
            self._refuse(agent_id, Reason.DUPLICATE, f"round {round_number}: counted already")
            self._send_receipt(agent_id, Receipt(run_id=run_id, round_number=round_number, outcome="accepted"))
        return not counted

    def _was_counted(self, agent_id: str, round_number: int) -> bool:
        """True for an update of the round that is being saved."""
        return self.phase is Phase.SAVING and round_number == self.round_number and agent_id in self._counted

    def _is_next(self, round_number: int) -> bool:
        """True for the round that is to be opened (again): what comes too early is sent again once it is open.

        After a crash, the broker hands over what agents sent for the round that was open, before we reopen it.
        """
        return self._open is None and round_number == self.round_number + 1

    def _take_update(self, agent_id: str, payload: bytes | memoryview) -> None:
        open_round = self._open
        if open_round is None:
            return
        expected = Expected(
            run_id=self.rules.run_id,
            round_number=open_round.number,
            agent_id=agent_id,
            model=self._weights,
            model_sha256=self._sha256,
            max_update_norm=self.rules.max_update_norm,
            max_bytes=self.rules.max_model_bytes,
        )
        try:
            update = screen(payload, expected)
            open_round.aggregator.add(update.weights, update.header.num_examples, update.inspection)
        except PayloadError as error:
            self._refuse_update(agent_id, open_round.number, error.reason, error.detail)
            return
        self._ignored_fields += update.ignored_fields
        open_round.accept(agent_id, update.header.num_examples, update.header.loss, self._now.monotonic_s)
        receipt = Receipt(run_id=self.rules.run_id, round_number=open_round.number, outcome="accepted")
        self._send_receipt(agent_id, receipt)
        if open_round.may_close_early(self.rules):
            self._close(open_round)

    # -- reports and refusals

    def _on_report_arrived(self, event: ReportArrived) -> None:
        member = self.members.get(event.agent_id)
        if member is None:
            self._refuse(event.agent_id, Reason.UNKNOWN_AGENT, "a report from an agent that never announced itself")
            return
        if event.run_id != self.rules.run_id:
            self._refuse(event.agent_id, Reason.WRONG_RUN, f"a report of run {event.run_id}")
            return
        started_at = self._started_at.get(event.round_number)
        if started_at is None:
            if not self._is_next(event.round_number):
                past = event.round_number <= self.round_number
                reason = Reason.STALE_ROUND if past else Reason.FUTURE_ROUND
                self._refuse(event.agent_id, reason, f"a report of round {event.round_number}")
            return
        if event.round_number == self.round_number:
            self._unreported.discard(event.agent_id)
        if not member.add_report(event.round_number):
            return
        record = DeviceRecord(
            run_id=self.rules.run_id,
            round_number=event.round_number,
            agent_id=event.agent_id,
            started_at=started_at,
            latency_s=self._latencies_s.get((event.round_number, event.agent_id)),
            report=event.report,
        )
        self._actions.append(Record(record))

    def _on_message_refused(self, event: MessageRefused) -> None:
        self._refuse(event.agent_id, event.reason, event.detail)

    def _on_fields_ignored(self, event: FieldsIgnored) -> None:
        self._ignored_fields += event.count

    def _refuse_update(
        self, agent_id: str, round_number: int, reason: Reason, detail: str, run_id: str | None = None
    ) -> None:
        self._refuse(agent_id, reason, detail)
        receipt = Receipt(
            run_id=run_id or self.rules.run_id,
            round_number=round_number,
            outcome="refused",
            reason=reason,
            detail=detail[:500],
        )
        self._send_receipt(agent_id, receipt)

    def _send_receipt(self, agent_id: str, receipt: Receipt) -> None:
        self._actions.append(self._letters.receipt(agent_id, receipt))

    def _refuse(self, agent_id: str, reason: Reason, detail: str) -> None:
        counted_as = agent_id if self.members.get(agent_id) else UNKNOWN
        tally = self._refused.setdefault(counted_as, {})
        tally[reason.value] = tally.get(reason.value, 0) + 1
        number = self._open.number if self._open else self.round_number
        self._actions.append(NoteRefusal(agent_id, reason, detail, number))

    # -- rounds

    def _do_what_is_due(self) -> None:
        now_s = self._now.monotonic_s
        if self.phase is Phase.CLAIMING and self._connected and now_s >= self._until_s:
            self._begin()
        if self.phase is Phase.COLLECTING and self._open is not None and self._connected:
            self._ask_for_chunks(self._open)
            if now_s >= self._open.deadline_s:
                self._at_deadline(self._open)
        if self.phase is Phase.WAITING:
            self._open_or_wait()
        if self.phase is Phase.ENDING:
            self._end_if_due()

    def _begin(self) -> None:
        """No other coordinator answered: the federation is ours."""
        self._publish_status()
        if self._resumed:
            self._gather_until_s = self._now.monotonic_s + GATHER_S
        if "record" in self._awaiting:
            self._awaiting.discard("record")
            self._move(Phase.SAVING)
            self._until_s = math.inf
            self._closed_at_s = self._opened_s = self._now.monotonic_s
            if self._awaiting:
                self._actions.append(Evaluate(self.round_number, self._weights))
            else:
                self._after_saving()
        elif self._is_last():
            self._start_ending()
        else:
            self._start_waiting()

    def _start_waiting(self) -> None:
        self._move(Phase.WAITING)
        self._until_s = self._now.monotonic_s + self.rules.patience_s

    def _open_or_wait(self) -> None:
        if not self._connected:
            return
        eligible = self.members.eligible()
        begun = self._attempt > 1 or (self.round_number > 0 and self._now.monotonic_s >= self._gather_until_s)
        least = self.rules.min_updates if begun else max(self.rules.min_agents, self.rules.min_updates)
        absent = sorted(self.rules.required_agents - set(eligible))
        if self._attempt > 1 and (len(eligible) < least or absent):
            # Nobody can take the place of those who sent nothing: they are asked once more.
            self.members.forgive()
            eligible = self.members.eligible()
            absent = sorted(self.rules.required_agents - set(eligible))
        if len(eligible) >= least and not absent:
            self._open_round(eligible)
        elif self._now.monotonic_s >= self._until_s:
            missing = f"; missing: {', '.join(absent)}" if absent else ""
            detail = (
                f"{len(eligible)} of {least} needed agents were there within {self.rules.patience_s:g} s{missing} "
                f"(there: {', '.join(eligible) or 'none'})"
            )
            self._finish("aborted", detail, say_goodbye=True)

    def _open_round(self, eligible: list[str]) -> None:
        rules, number, now = self.rules, self.round_number + 1, self._now
        selected = self._select(eligible, rules, number)
        blob = self._letters.model_blob(number, self._weights, self._sha256, self._examples)
        chunked = len(blob) > rules.chunk_bytes
        self._open = OpenRound(
            number=number,
            attempt=self._attempt,
            selected=frozenset(selected),
            welcome=self._asked,
            deadline_s=now.monotonic_s + rules.deadline_s,
            started_at=self._started_at.setdefault(number, now.utc_s),
            blob=blob,
            offer=ModelOffer(
                sha256=self._sha256,
                size_bytes=len(blob),
                blob_sha256=hashlib.sha256(blob).hexdigest() if chunked else None,
            ),
            aggregator=self._strategy.aggregator(self._weights),
            times=RoundTimes(opened_s=now.monotonic_s),
            pulls=Pulls(rules.chunk_bytes),
        )
        self._opened_s = now.monotonic_s
        self._move(Phase.COLLECTING)
        self._until_s = math.inf
        # One broadcast beats many copies as soon as most of those who are there take part.
        receivers = [None] if 2 * len(selected) > len(self.members.online()) else selected
        if not chunked:
            self._actions += [self._letters.model(self._open, receiver) for receiver in receivers]
        for agent_id in selected:
            self._announce(agent_id)
        self._actions.append(Proceed())

    def _announce(self, agent_id: str) -> None:
        member, open_round = self.members.get(agent_id), self._open
        if member is None or open_round is None:
            return
        remaining_s = open_round.deadline_s - self._now.monotonic_s
        self._actions.append(self._letters.announcement(open_round, agent_id, member, remaining_s))

    def _ask_for_chunks(self, open_round: OpenRound) -> None:
        due = open_round.pulls.due(self._now.monotonic_s)
        if due is not None:
            agent_id, first, count = due
            message = ChunksWanted(run_id=self.rules.run_id, round_number=open_round.number, first=first, count=count)
            self._actions.append(self._letters.wanted(agent_id, message))

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
        self._event("round-repeated", detail)
        self._note_silence(open_round, "no update before the deadline")
        self._open = None
        if self._attempt >= self.rules.max_attempts:
            self._finish(
                "aborted", f"round {open_round.number} could not be met in {self._attempt} attempts: {detail}", True
            )
            return
        self._attempt += 1
        self._asked |= open_round.selected
        self._start_waiting()

    def _close(self, open_round: OpenRound) -> None:
        """Make the next global model from exactly the accepted updates."""
        open_round.times.closed_s = self._now.monotonic_s
        step = self._strategy.step(self._weights, open_round.aggregator.result(), self._state)
        self._weights, self._state = step.weights, step.state
        self._sha256 = digest(self._weights)
        self._examples = open_round.aggregator.num_examples
        self.round_number = open_round.number
        self._attempt, self._asked = 1, frozenset()
        self._counted = frozenset(open_round.accepted)
        self._left_behind = self._note_silence(open_round, "no update before the round closed")
        self._remember(open_round)
        self._move(Phase.CLOSING)
        self._actions.append(Proceed())

    def _note_silence(self, open_round: OpenRound, detail: str) -> list[str]:
        """Select nobody who is there and sent nothing, until it is heard from; those whom this concerns."""
        silent = []
        for agent_id in open_round.missing():
            member = self.members.get(agent_id)
            if member is not None and member.online:
                member.silent = True
                self._event("agent-silent", detail, agent_id)
                silent.append(agent_id)
        return silent

    def _remember(self, open_round: OpenRound) -> None:
        """Keep what late reports of this round need, and forget what is too old."""
        oldest = open_round.number - REMEMBERED_ROUNDS
        self._started_at = {n: at for n, at in self._started_at.items() if n > oldest}
        self._latencies_s = {key: s for key, s in self._latencies_s.items() if key[0] >= open_round.number - 1}
        self._latencies_s |= {(open_round.number, agent): s for agent, s in open_round.latencies_s.items()}

    def _on_proceeded(self, event: Proceeded) -> None:
        open_round = self._open
        if open_round is None:
            return
        if self.phase is Phase.COLLECTING:
            open_round.times.broadcast_s = self._now.monotonic_s - open_round.times.opened_s
        elif self.phase is Phase.CLOSING:
            open_round.times.aggregate_s = self._now.monotonic_s - open_round.times.closed_s
            open_round.times.traffic = event.traffic.since(self._traffic_mark)
            self._traffic_mark = event.traffic.copy()
            self._save(open_round)

    def _save(self, open_round: OpenRound) -> None:
        self._closed = open_round.record(self.rules.run_id, self._sha256, self._refused, self._ignored_fields)
        self._refused, self._ignored_fields = {}, 0
        self._closed_at_s = self._now.monotonic_s
        self._open = None
        self._move(Phase.SAVING)
        self._awaiting = {"checkpoint"}
        if self.rules.evaluate:
            self._awaiting.add("evaluation")
            self._actions.append(Evaluate(self.round_number, self._weights))
        self._actions.append(SaveCheckpoint(self.round_number, self._weights, self._state, self.snapshot()))

    def _on_checkpoint_saved(self, event: CheckpointSaved) -> None:
        if self._closed is not None and event.round_number == self.round_number:
            self._closed = self._closed.model_copy(update={"checkpoint_s": event.duration_s})
            self._awaiting.discard("checkpoint")
            self._settle()
            self._after_saving()

    def _settle(self) -> None:
        """The round is closed for good: from now on agents are told so, and those left behind at once."""
        self._durable_round = self.round_number
        for agent_id in self._counted:
            member = self.members.get(agent_id)
            if member is not None:
                member.last_accepted_round = self.round_number
        for agent_id in self._left_behind:
            self._send_standing(agent_id, "waiting")
        self._left_behind = []

    def _on_evaluated(self, event: Evaluated) -> None:
        if self._closed is not None and event.round_number == self.round_number:
            loss = event.loss if math.isfinite(event.loss) else None
            measured = {"loss": loss, "accuracy": event.accuracy, "evaluate_s": event.duration_s}
            self._closed = self._closed.model_copy(update=measured)
            self._awaiting.discard("evaluation")
            self._after_saving()

    def _after_saving(self) -> None:
        if self._awaiting or self._closed is None or self.phase is not Phase.SAVING:
            return
        self._closed = self._closed.model_copy(update={"duration_s": self._now.monotonic_s - self._opened_s})
        self._actions.append(Record(self._closed, durable=True))
        self.members.reports_are_durable()
        if self._is_last():
            self._start_ending()
        else:
            self._start_waiting()

    # -- the end

    def _is_last(self) -> bool:
        return self.round_number >= self.rules.rounds or self._target_reached()

    def _target_reached(self) -> bool:
        accuracy = self._closed.accuracy if self._closed else None
        target = self.rules.target_accuracy
        return target is not None and accuracy is not None and accuracy >= target

    def _start_ending(self) -> None:
        self._move(Phase.ENDING)
        self._until_s = self._now.monotonic_s + self.rules.report_grace_s
        accepted = self._closed.accepted if self._closed else ()
        self._unreported = {agent_id for agent_id in accepted if self._may_still_report(agent_id)}

    def _may_still_report(self, agent_id: str) -> bool:
        member = self.members.get(agent_id)
        # Those that a resumed run knows have not had the time to come back.
        here = member is not None and (member.online or not member.instance)
        return member is not None and here and self.round_number not in member.reports

    def _end_if_due(self) -> None:
        now_s = self._now.monotonic_s
        if self._connected:
            due = now_s >= self._until_s or not self._unreported
        else:
            # Everything is on disk: a broker that never comes back shall not hold up the end for ever.
            due = now_s >= self._lost_at_s + self.rules.patience_s
        if due:
            self._finish("finished", self._closing_words(), say_goodbye=self._connected)

    def _closing_words(self) -> str:
        accuracy = self._closed.accuracy if self._closed else None
        reached = f", test accuracy {accuracy:.2%}" if accuracy is not None else ""
        return f"after round {self.round_number}{reached}"

    def _finish(self, outcome: str, detail: str, say_goodbye: bool) -> None:
        """End the run; `say_goodbye` only when the federation was ours."""
        if self._target_reached():
            self._event("target-reached", self._closing_words())
        self._event(outcome, detail, durable=True)
        self._open = None
        if say_goodbye:
            phase = outcome if outcome != "stopped" else "waiting"
            for agent_id in self.members.online():
                self._send_standing(agent_id, phase, detail)
            self._publish_status(online=False)
        self._move(Phase.OVER)
        self._actions.append(End(outcome, detail))

    def _on_stop_asked(self, event: StopAsked) -> None:
        self._finish("stopped", event.reason, say_goodbye=self.phase not in (Phase.OFFLINE, Phase.CLAIMING))

    def _on_work_failed(self, event: WorkFailed) -> None:
        # Agents keep what they have: the run can go on once the cause, such as a full disk, is gone.
        self._finish("stopped", f"{event.what} failed: {event.error}", say_goodbye=True)

    # -- small things

    def _move(self, phase: Phase) -> None:
        if phase not in MOVES[self.phase]:
            raise AssertionError(f"no move from {self.phase} to {phase}")
        self.phase = phase

    def _publish_status(self, *, claim: bool = False, answers: str | None = None, online: bool = True) -> None:
        message = CoordinatorStatus(
            state="online" if online else "offline",
            session=self.session,
            claim=claim,
            answers=answers,
            run_id=self.rules.run_id,
        )
        self._actions.append(self._letters.status(message))

    def _send_standing(self, agent_id: str, phase: Any, detail: str | None = None) -> None:
        member = self.members.get(agent_id)
        if member is not None:
            message = Standing(
                phase=phase,
                run_id=self.rules.run_id,
                closed_round=self._durable_round,
                detail=detail[:500] if detail else None,
            )
            self._actions.append(self._letters.standing(agent_id, member, message))

    def _event(self, name: str, detail: str, agent_id: str | None = None, durable: bool = False) -> None:
        number = self._open.number if self._open else self.round_number
        event = RunEvent(
            run_id=self.rules.run_id,
            at=self._now.utc_s,
            name=name,
            round_number=number,
            agent_id=agent_id,
            detail=detail,
        )
        self._actions.append(Record(event, durable))
