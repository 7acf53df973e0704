"""The participant engine: an agent's decisions as a state machine without sockets, clocks, files or threads.

`handle(event, now)` takes one thing that happened and returns what to do about it, in order. The rules it keeps:
an update is made once per round and the same bytes are sent again when asked; what is carried from round to round
takes effect only when the coordinator says that the round closed with the update; nothing rests on a message
having arrived, as anything missing is asked for again.
"""

import math
from collections.abc import Callable, Collection
from typing import Any

from edge_agent.agent_state import AgentState
from edge_agent.events import (
    Action,
    Announced,
    Called,
    Carry,
    CarryKept,
    ChunkArrived,
    ChunksAsked,
    ConnectionGained,
    ConnectionLost,
    CoordinatorSeen,
    End,
    Event,
    HeldModel,
    Measured,
    MessageRefused,
    ModelArrived,
    ModelDerived,
    PendingUpdate,
    ReceiptArrived,
    StatusSeen,
    Stood,
    StopAsked,
    TimePassed,
    TrainingFailed,
    TrainingFinished,
)
from edge_agent.fetching import Fetching
from edge_agent.holdings import Holdings
from edge_agent.identity import Identity, Verdict
from edge_agent.letters import Letters
from edge_agent.outbox import Outbox
from edge_agent.phases import Phase
from edge_agent.polling import Polling
from edge_agent.reports import Reports
from edge_agent.sending import Sending
from edge_agent.workbench import Workbench
from schemas.measures import Instant
from schemas.messages import ModelOffer, RoundAnnouncement


class ParticipantEngine:
    """One agent's decisions.

    Args:
        agent_id: our name, also the MQTT user.
        instance: drawn anew at each start of the process.
        pending: the update found on disk, if any.
        carries: round -> what was carried out of it, found on disk, of the pending update's run or of `run_id`.
        run_id: the run that `carries` belongs to.
        held: the model found on disk, if any.
        ended: instances of this agent that are known to have ended, see `Spool.note_start`.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what is left of an earlier process, each with a default
        self,
        agent_id: str,
        instance: str,
        pending: PendingUpdate | None = None,
        carries: dict[int, Carry] | None = None,
        run_id: str = "",
        held: HeldModel | None = None,
        ended: Collection[str] = (),
    ) -> None:
        self._state = AgentState(run_id, pending, carries or {}, held)
        self._out = Outbox(Letters(agent_id, instance))
        self._identity = Identity(instance, ended)
        self._polling = Polling(self._state, self._out)
        self._holdings = Holdings(self._state, self._out)
        self._bench = Workbench(self._state, self._out)
        self._fetching = Fetching(self._state, self._out, self._bench, self._polling)
        self._sending = Sending(self._state, self._out, self._bench, self._holdings, self._polling)
        self._reports = Reports(self._state, self._out)
        self._session = ""
        self._known: RoundAnnouncement | None = None
        self._over = False
        self._handlers: dict[type, Callable[[Any], None]] = {
            ConnectionGained: self._on_connection_gained,
            ConnectionLost: self._on_connection_lost,
            StatusSeen: self._on_status_seen,
            CoordinatorSeen: self._on_coordinator_seen,
            Announced: self._on_announced,
            Called: self._on_called,
            Stood: self._on_stood,
            ModelArrived: self._fetching.on_model_arrived,
            ChunkArrived: self._fetching.on_chunk_arrived,
            ReceiptArrived: self._sending.on_receipt_arrived,
            ChunksAsked: self._sending.on_chunks_asked,
            MessageRefused: self._on_message_refused,
            ModelDerived: self._fetching.on_model_derived,
            TrainingFinished: self._sending.on_training_finished,
            TrainingFailed: self._on_training_failed,
            CarryKept: self._sending.on_carry_kept,
            Measured: self._reports.on_measured,
            TimePassed: lambda _event: None,
            StopAsked: self._on_stop_asked,
        }

    @property
    def phase(self) -> Phase:
        """What the agent is doing."""
        return self._state.phase

    @property
    def pending(self) -> PendingUpdate | None:
        """The update whose round is not known to be closed."""
        return self._state.pending

    def handle(self, event: Event, now: Instant) -> list[Action]:
        """Take one event; returns the actions to carry out, in this order."""
        self._state.now = now
        self._out.actions = []
        if not self._over:
            self._handlers[type(event)](event)
            self._do_what_is_due()
            if self._identity.checking:
                self._out.hold_back()
        return self._out.actions

    def wake_at_s(self) -> float:
        """Monotonic time at which `TimePassed` is wanted; `math.inf` when nothing is due."""
        if self._over or not self._state.connected:
            return math.inf
        return min(self._state.retry_at_s, self._polling.due_s, self._identity.due_s)

    # -- connection

    def _on_connection_gained(self, _event: ConnectionGained) -> None:
        self._state.connected = True
        if math.isnan(self._state.idle_since_s):
            self._state.idle_since_s = self._state.now_s
        self._follow(self._identity.connect(self._state.now_s))

    def _on_connection_lost(self, _event: ConnectionLost) -> None:
        self._state.connected = False
        self._identity.disconnect()
        self._out.drop_held()

    def _on_status_seen(self, event: StatusSeen) -> None:
        if self._state.connected:
            self._follow(self._identity.see(event.status, self._state.now_s, retained=event.retained))

    def _follow(self, verdict: Verdict) -> None:
        if verdict is Verdict.INTRODUCE_ITSELF:
            self._introduce()
        elif verdict is Verdict.GIVE_WAY:
            self._bench.stop()
            self._out.add(End(taken_over=True))
            self._over = True

    def _introduce(self) -> None:
        self._out.add(self._out.letters.status(self._state.held))
        self._polling.heard()
        if self._state.failure is not None:
            self._out.add(self._out.letters.ask_state(self._state.held, self._state.failure))
        self._reports.send_again()
        self._out.release()
        if self.phase is Phase.FETCHING and self._state.work is not None:
            self._fetching.go_on(self._state.work)

    def _on_coordinator_seen(self, event: CoordinatorSeen) -> None:
        among_coordinators = event.status.claim or event.status.answers is not None
        anew = event.status.session != self._session and not among_coordinators
        if anew or event.status.state == "offline":
            self._fetching.note_absence()
            self._polling.asked = False  # nobody is there to answer
        if event.status.state == "online" and anew:
            self._session = event.status.session
            # It may have gone back to an older checkpoint, and counts attempts anew.
            self._state.closed_round = 0
            self._state.failed = self._state.failure = None
            self._polling.heard()
            self._out.add(self._out.letters.status(self._state.held))

    # -- time

    def _do_what_is_due(self) -> None:
        now_s = self._state.now_s
        if not self._state.connected or self._over:
            return
        if now_s >= self._identity.due_s:
            self._out.hold_back()
            self._follow(self._identity.decide())
            if self._over:
                return
        if now_s >= self._state.retry_at_s:
            self._retry()
        self._polling.ask_if_due()

    def _retry(self) -> None:
        state = self._state
        if state.phase is Phase.FETCHING and state.work is not None:
            self._fetching.ask(state.work)
        elif state.phase is Phase.KEEPING and state.work is not None and state.work.made is not None:
            self._sending.keep(state.work.made)
        elif state.phase is Phase.SENDING and state.pending is not None:
            self._sending.send_again(state.pending)
        else:
            state.retry_at_s = math.inf

    # -- where the run stands

    def _on_called(self, event: Called) -> None:
        """A round in few words: the rest is what the last complete announcement said."""
        call, known = event.call, self._known
        if known is None or (known.run_id, known.terms) != (call.run_id, call.terms):
            self._out.add(self._out.letters.ask_state(self._state.held))
            return
        said = call.model_dump(exclude={"v", "sha256", "base"})
        model = ModelOffer(sha256=call.sha256, size_bytes=0, codec=known.model.codec, base=call.base)
        self._on_announced(Announced(known.model_copy(update=said | {"model": model}), event.minor))

    def _on_announced(self, event: Announced) -> None:
        announcement = self._known = event.announcement
        is_answer = self._polling.asked
        run_id, closed_round = announcement.run_id, announcement.round_number - 1
        self._polling.heard("announced", run_id, announcement.round_number, announcement.attempt)
        if self._holdings.is_outdated(run_id, closed_round):
            return
        self._out.letters.minor = event.minor
        self._holdings.settle(run_id, closed_round, announcement.last_accepted_round)
        self._reports.settle(run_id, announcement.recorded_reports)
        self._reports.send_again(before=closed_round - 1)
        pending = self._state.pending
        if pending is not None and pending.answers(announcement):
            # What we asked while our update waits in a queue says nothing of it: the receipt's own time goes on.
            waits = is_answer and self._sending.awaits_receipt(announcement)
            self._bench.take_up(announcement)
            if not waits:
                self._sending.begin(pending)
        elif self._bench.goes_on_with(announcement):
            self._fetching.on_announced_again()
        elif not self._bench.has_failed_at(announcement):
            self._begin(announcement)

    def _begin(self, announcement: RoundAnnouncement) -> None:
        self._holdings.forget_pending(accepted=False)
        self._fetching.begin(self._bench.begin(announcement))

    def _on_stood(self, event: Stood) -> None:
        standing = event.standing
        self._polling.heard("stood", standing.run_id, standing.closed_round, standing.phase)
        if self._holdings.is_outdated(standing.run_id, standing.closed_round):
            return
        self._holdings.settle(standing.run_id, standing.closed_round, standing.last_accepted_round)
        self._reports.settle(standing.run_id, standing.recorded_reports)
        over = standing.phase != "waiting"
        if over:
            self._out.tell(f"run {standing.run_id} {standing.phase}: {standing.detail or ''}")
            self._holdings.forget_pending(accepted=False)
        work = self._state.work
        if work is not None and (over or work.run_id != standing.run_id or work.number <= standing.closed_round):
            if self.phase in (Phase.FETCHING, Phase.TRAINING, Phase.KEEPING):
                self._out.tell(f"round {work.number} is over: abandoned")
            self._bench.stop()

    # -- the rest

    def _on_training_failed(self, event: TrainingFailed) -> None:
        work = self._state.working_on(event.run_id, event.round_number, Phase.TRAINING)
        if work is not None:
            self._state.phase = Phase.FETCHING  # nothing is left to be stopped
            self._bench.fail(work, f"training of round {event.round_number} failed: {event.error}")

    def _on_message_refused(self, event: MessageRefused) -> None:
        self._out.tell(f"message on {event.topic} refused: {event.reason}", warning=True)

    def _on_stop_asked(self, _event: StopAsked) -> None:
        self._bench.stop()
        self._out.add(self._out.letters.goodbye())
        self._out.add(End())
        self._over = True
