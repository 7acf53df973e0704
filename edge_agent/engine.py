"""The participant engine: an agent's decisions as a state machine without sockets, clocks, files or threads.

`handle(event, now)` takes one thing that happened and returns what to do about it, in order. The rules it keeps:
an update is made once per round and the same bytes are sent again when asked; what is carried from round to round
takes effect only when the coordinator says that the round closed with the update; nothing rests on a message
having arrived, as anything missing is asked for again.
"""

import math
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from edge_agent.events import (
    Action,
    Announced,
    Carry,
    ChunkArrived,
    ChunksAsked,
    ConnectionGained,
    ConnectionLost,
    CoordinatorSeen,
    End,
    Event,
    ForgetCarriesBefore,
    ForgetOtherRuns,
    ForgetUpdate,
    KeepUpdate,
    Measure,
    Measured,
    MessageRefused,
    ModelArrived,
    PendingUpdate,
    Publish,
    ReceiptArrived,
    StartTraining,
    StatusSeen,
    Stood,
    StopAsked,
    StopTraining,
    Tell,
    TimePassed,
    TrainingFailed,
    TrainingFinished,
)
from edge_agent.identity import Identity, Verdict
from edge_agent.letters import Letters
from edge_agent.round_in_work import RoundInWork
from schemas import wire
from schemas.chunks import Fetch
from schemas.errors import PayloadError, Reason
from schemas.measures import Instant, Traffic
from schemas.messages import AgentReport, BlobHeader, RoundAnnouncement
from schemas.weights import Weights, decode, digest

MODEL_WAIT_S = 2.0
"""How long after the announcement the model may take before it is asked for."""

MODEL_RETRY_S = 10.0
"""After that it is asked for again after this time. Chunks have their own waits: see `schemas.chunks.Fetch`."""

RESEND_S = 10.0
"""An update without a receipt is sent again after this time, then after twice as long, and so on."""

POLL_S = 20.0
"""After hearing nothing for so long, ask what is going on; then after twice as long, up to `MAX_WAIT_S`, until
there is something new."""

MAX_WAIT_S = 120.0

PASSING_REASONS = frozenset(
    {
        Reason.UNKNOWN_AGENT,
        Reason.WRONG_RUN,
        Reason.STALE_ROUND,
        Reason.FUTURE_ROUND,
        Reason.NOT_SELECTED,
        Reason.DUPLICATE,
    }
)
"""Refusals that say nothing against the update itself. The same bytes may count in another attempt, and as the answer
may be late, they may already have done so: the update stays until its round is known to be closed."""
KEPT_REPORTS = 16


class Phase(StrEnum):
    """What the agent is doing."""

    IDLE = "idle"
    FETCHING = "fetching"  # the model
    TRAINING = "training"
    SENDING = "sending"  # until the receipt
    WAITING = "waiting"  # for the round to close


class ParticipantEngine:
    """One agent's decisions.

    Args:
        agent_id: our name, also the MQTT user.
        instance: drawn anew at each start of the process.
        pending: the update found on disk, if any.
        carries: round -> what was carried out of it, found on disk, of the pending update's run or of `run_id`.
        run_id: the run that `carries` belongs to.
    """

    def __init__(
        self,
        agent_id: str,
        instance: str,
        pending: PendingUpdate | None = None,
        carries: dict[int, Carry] | None = None,
        run_id: str = "",
    ) -> None:
        self.phase = Phase.IDLE
        self._letters = Letters(agent_id, instance)
        self._identity = Identity(instance)
        self._held: list[Publish] = []  # until we know that we are the newest process of this agent
        self._pending = pending
        self._carries = carries or {}
        self._run_id = run_id
        self._closed_round = 0
        self._work: RoundInWork | None = None
        self._model: ModelArrived | None = None
        self._reports: dict[int, AgentReport] = {}
        self._traffic_mark = Traffic()
        self._cpu_mark_s = 0.0
        self._idle_since_s = math.nan
        self._connected = False
        self._session = ""
        self._retry_at_s = math.inf
        self._retry_wait_s = RESEND_S
        self._poll_at_s = math.inf
        self._poll_wait_s = POLL_S
        self._news: tuple[object, ...] = ()
        self._failed: RoundAnnouncement | None = None
        self._last_refusal = ""
        self._over = False
        self._now = Instant(0.0, 0.0)
        self._actions: list[Action] = []
        self._handlers: dict[type, Callable[[Any], None]] = {
            ConnectionGained: self._on_connection_gained,
            ConnectionLost: self._on_connection_lost,
            StatusSeen: self._on_status_seen,
            CoordinatorSeen: self._on_coordinator_seen,
            Announced: self._on_announced,
            Stood: self._on_stood,
            ModelArrived: self._on_model_arrived,
            ChunkArrived: self._on_chunk_arrived,
            ReceiptArrived: self._on_receipt_arrived,
            ChunksAsked: self._on_chunks_asked,
            MessageRefused: self._on_message_refused,
            TrainingFinished: self._on_training_finished,
            TrainingFailed: self._on_training_failed,
            Measured: self._on_measured,
            TimePassed: lambda _event: None,
            StopAsked: self._on_stop_asked,
        }

    @property
    def pending(self) -> PendingUpdate | None:
        """The update whose round is not known to be closed."""
        return self._pending

    def handle(self, event: Event, now: Instant) -> list[Action]:
        """Take one event; returns the actions to carry out, in this order."""
        self._now = now
        self._actions = []
        if not self._over:
            self._handlers[type(event)](event)
            self._do_what_is_due()
            self._hold_back()
        return self._actions

    def wake_at_s(self) -> float:
        """Monotonic time at which `TimePassed` is wanted; `math.inf` when nothing is due."""
        if self._over or not self._connected:
            return math.inf
        return min(self._retry_at_s, self._poll_at_s, self._identity.due_s)

    # -- connection

    def _on_connection_gained(self, _event: ConnectionGained) -> None:
        self._connected = True
        if math.isnan(self._idle_since_s):
            self._idle_since_s = self._now.monotonic_s
        self._follow(self._identity.connect(self._now.monotonic_s))

    def _on_connection_lost(self, _event: ConnectionLost) -> None:
        self._connected = False
        self._identity.disconnect()
        self._held.clear()

    def _on_status_seen(self, event: StatusSeen) -> None:
        if self._connected:
            self._follow(self._identity.see(event.status, self._now.monotonic_s, retained=event.retained))

    def _follow(self, verdict: Verdict) -> None:
        if verdict is Verdict.INTRODUCE_ITSELF:
            self._introduce()
        elif verdict is Verdict.GIVE_WAY:
            self._stop_working()
            self._actions.append(End(taken_over=True))
            self._over = True

    def _introduce(self) -> None:
        self._actions.append(self._letters.status())
        self._heard()
        self._resend_reports(before=None)
        self._actions += self._held
        self._held.clear()
        if self.phase is Phase.FETCHING and self._work is not None:
            self._retry_at_s = self._now.monotonic_s + MODEL_WAIT_S
            if self._work.fetch is not None:
                self._work.fetch.ask_again()
                self._ask_for_model(self._work)

    def _hold_back(self) -> None:
        """Publish nothing while a newer process may be there."""
        if self._identity.checking:
            self._held += [action for action in self._actions if isinstance(action, Publish)]
            self._actions = [action for action in self._actions if not isinstance(action, Publish)]

    def _on_coordinator_seen(self, event: CoordinatorSeen) -> None:
        if event.status.state == "online" and not event.status.claim and event.status.session != self._session:
            self._session = event.status.session
            # It may have gone back to an older checkpoint, and counts attempts anew.
            self._closed_round = 0
            self._failed = None
            self._heard()
            self._actions.append(self._letters.status())

    def _heard(self, *news: object) -> None:
        """The coordinator spoke to us, or we to it: no need to ask for a while, a longer one when nothing is new."""
        if not news or news != self._news:
            self._poll_wait_s = POLL_S
        self._news = news
        self._poll_at_s = self._now.monotonic_s + self._poll_wait_s

    def _do_what_is_due(self) -> None:
        now_s = self._now.monotonic_s
        if not self._connected or self._over:
            return
        if now_s >= self._identity.due_s:
            self._hold_back()
            self._follow(self._identity.decide())
            if self._over:
                return
        if now_s >= self._retry_at_s:
            self._retry()
        if now_s >= self._poll_at_s:
            self._poll_wait_s = min(2 * self._poll_wait_s, MAX_WAIT_S)
            self._poll_at_s = now_s + self._poll_wait_s
            self._actions.append(self._letters.ask_state())

    def _retry(self) -> None:
        if self.phase is Phase.FETCHING and self._work is not None:
            self._ask_for_model(self._work)
        elif self.phase is Phase.SENDING and self._pending is not None:
            self._retry_wait_s = min(2 * self._retry_wait_s, MAX_WAIT_S)
            self._send_update(self._pending)
        else:
            self._retry_at_s = math.inf

    # -- where the run stands

    def _on_announced(self, event: Announced) -> None:
        announcement = event.announcement
        self._heard("announced", announcement.run_id, announcement.round_number, announcement.attempt)
        if self._is_outdated(announcement.run_id, announcement.round_number - 1):
            return
        self._letters.minor = event.minor
        self._settle(announcement.run_id, announcement.round_number - 1, announcement.last_accepted_round)
        self._forget_recorded(announcement.recorded_reports)
        self._resend_reports(before=announcement.round_number - 1)
        if self._pending is not None and self._pending.answers(announcement):
            self._retry_wait_s = RESEND_S
            if self._work is not None and self._work.is_of(announcement.run_id, announcement.round_number):
                self._work.announcement = announcement
            else:
                self._work = RoundInWork(announcement, self._now.monotonic_s)
            self._send_update(self._pending)
        elif self.phase in (Phase.FETCHING, Phase.TRAINING) and self._work and self._work.same_as(announcement):
            self._work.announcement = announcement
        elif not self._has_failed_at(announcement):
            if self._pending is not None:
                self._forget_pending(accepted=False)
            self._begin(announcement)

    def _on_stood(self, event: Stood) -> None:
        standing = event.standing
        self._heard("stood", standing.run_id, standing.closed_round, standing.phase)
        if self._is_outdated(standing.run_id, standing.closed_round):
            return
        over = standing.phase != "waiting"
        self._settle(standing.run_id, standing.closed_round, standing.last_accepted_round)
        self._forget_recorded(standing.recorded_reports)
        if over:
            self._actions.append(Tell(f"run {standing.run_id} {standing.phase}: {standing.detail or ''}"))
            if self._pending is not None:
                self._forget_pending(accepted=False)
        work = self._work
        if work is not None and (over or work.run_id != standing.run_id or work.number <= standing.closed_round):
            if self.phase in (Phase.FETCHING, Phase.TRAINING):
                self._actions.append(Tell(f"round {work.number} is over: abandoned"))
            self._stop_working()

    def _is_outdated(self, run_id: str, closed_round: int) -> bool:
        """True for news that were overtaken by newer ones on their way; otherwise notes how far the run is."""
        if run_id == self._run_id and closed_round < self._closed_round:
            return True
        self._closed_round = closed_round
        return False

    def _settle(self, run_id: str, closed_round: int, last_accepted_round: int) -> None:
        """Bring what we carry in line with what the coordinator says was accepted."""
        if run_id != self._run_id:
            self._actions.append(ForgetOtherRuns(run_id))
            self._run_id, self._carries, self._reports = run_id, {}, {}
            if self._pending is not None and self._pending.run_id != run_id:
                self._pending = None
        pending = self._pending
        if pending is not None and pending.round_number <= closed_round:
            self._forget_pending(accepted=pending.round_number == last_accepted_round)
        # Carries of later rounds stay: should the coordinator have fallen back to an older checkpoint, they are not
        # used (the one of the last accepted round is) and are replaced when their round closes again.
        stale = [number for number in self._carries if number < last_accepted_round]
        if stale:
            self._carries = {n: carry for n, carry in self._carries.items() if n >= last_accepted_round}
            self._actions.append(ForgetCarriesBefore(run_id, last_accepted_round))

    def _forget_pending(self, *, accepted: bool) -> None:
        pending = self._pending
        if pending is None:
            return
        if accepted and pending.carry:
            self._carries[pending.round_number] = pending.carry
        self._actions.append(ForgetUpdate(pending.run_id, pending.round_number, accepted))
        self._pending = None

    # -- a round

    def _begin(self, announcement: RoundAnnouncement) -> None:
        self._stop_working()
        self._work = RoundInWork(announcement, self._now.monotonic_s)
        self._work.idle_s = max(0.0, self._now.monotonic_s - self._idle_since_s)
        self.phase = Phase.FETCHING
        offer = announcement.model
        if offer.blob_sha256 is None:
            self._retry_at_s = self._now.monotonic_s + MODEL_WAIT_S
            if self._model is not None:
                self._try_model(self._work, self._model)
            return
        try:
            self._work.fetch = Fetch(offer.size_bytes, announcement.chunk_bytes, offer.blob_sha256)
        except (PayloadError, MemoryError) as error:
            text = f"round {announcement.round_number}: no room for a model of {offer.size_bytes} bytes: {error}"
            self._fail(self._work, text)
        else:
            self._ask_for_model(self._work)

    def _fail(self, work: RoundInWork, text: str) -> None:
        """This work cannot be done: say so, and do not try again before something is different."""
        self._actions.append(Tell(text, warning=True))
        self._failed = work.announcement
        self._stop_working()

    def _has_failed_at(self, announcement: RoundAnnouncement) -> bool:
        return (
            self._failed is not None
            and RoundInWork(self._failed, 0.0).same_as(announcement)
            and self._failed.attempt == announcement.attempt
        )

    def _stop_working(self) -> None:
        if self.phase is Phase.TRAINING:
            self._actions.append(StopTraining())
        if self.phase in (Phase.FETCHING, Phase.TRAINING):
            self._idle_since_s = self._now.monotonic_s
        self.phase = Phase.IDLE
        self._work = None
        self._retry_at_s = math.inf

    def _ask_for_model(self, work: RoundInWork) -> None:
        now_s, fetch = self._now.monotonic_s, work.fetch
        if fetch is None:
            self._actions.append(self._letters.ask_model(work.run_id, work.number))
            self._retry_at_s = now_s + MODEL_RETRY_S
            return
        question = fetch.question(now_s)
        if question is not None:
            self._actions.append(self._letters.ask_chunks(work.run_id, work.number, *question))
        self._retry_at_s = fetch.due_at_s

    def _on_model_arrived(self, event: ModelArrived) -> None:
        if (
            self.phase is Phase.FETCHING
            and self._work is not None
            and self._work.is_of(event.run_id, event.round_number)
        ):
            self._try_model(self._work, event)
        elif self._work is None or not self._work.is_of(event.run_id, event.round_number):
            # The model usually comes just before its announcement.
            self._model = event

    def _on_chunk_arrived(self, event: ChunkArrived) -> None:
        work = self._work
        if work is None or work.fetch is None or not work.is_of(event.run_id, event.round_number):
            return
        self._heard()
        now_s = self._now.monotonic_s
        try:
            work.fetch.add(event.payload, event.index, now_s)
            if work.fetch.complete:
                self._try_model(work, ModelArrived(event.run_id, event.round_number, work.fetch.blob(now_s)))
                return
        except PayloadError as error:
            self._actions.append(Tell(f"chunk {event.index} of round {work.number} refused: {error}", warning=True))
        self._ask_for_model(work)

    def _try_model(self, work: RoundInWork, event: ModelArrived) -> None:
        if not work.is_of(event.run_id, event.round_number):
            return
        self._model = None
        try:
            weights = _read_model(event.payload, work.announcement)
        except PayloadError as error:
            text = f"model of round {work.number} refused: {error}"
            if work.fetch is not None and work.fetch.complete:
                # Its hash is the announced one: it would be the same again.
                self._fail(work, text)
            else:
                self._actions.append(Tell(text, warning=True))
            return
        work.model_at_s = self._now.monotonic_s
        work.fetch = None
        self.phase = Phase.TRAINING
        self._retry_at_s = math.inf
        carry = self._carries.get(work.announcement.last_accepted_round, {})
        self._actions.append(StartTraining(work.announcement, weights, carry))

    def _on_training_finished(self, event: TrainingFinished) -> None:
        work = self._work
        if self.phase is not Phase.TRAINING or work is None or not work.is_of(event.run_id, event.round_number):
            return
        work.trained_at_s = self._now.monotonic_s
        work.batches, work.examples, work.loss = event.num_batches, event.num_examples, event.loss
        self._pending = PendingUpdate(
            run_id=event.run_id,
            round_number=event.round_number,
            base_sha256=work.announcement.model.sha256,
            blob=self._letters.update_blob(work.announcement, event),
            carry=event.carry,
        )
        self._retry_wait_s = RESEND_S
        keep = KeepUpdate(self._pending)
        # A carry must be on the disk before anyone can rest on its update; an update alone can be made again.
        if self._pending.carry:
            self._actions.append(keep)
        self._send_update(self._pending)
        if not self._pending.carry:
            self._actions.append(keep)

    def _on_training_failed(self, event: TrainingFailed) -> None:
        work = self._work
        if self.phase is Phase.TRAINING and work is not None and work.is_of(event.run_id, event.round_number):
            self.phase = Phase.FETCHING  # nothing is left to be stopped
            self._fail(work, f"training of round {event.round_number} failed: {event.error}")

    def _send_update(self, pending: PendingUpdate) -> None:
        work = self._work
        if work is None:
            return
        self.phase = Phase.SENDING
        if math.isnan(work.sent_at_s):
            work.sent_at_s = self._now.monotonic_s
        self._retry_at_s = self._now.monotonic_s + self._retry_wait_s
        chunk_bytes = work.announcement.chunk_bytes
        if len(pending.blob) > work.announcement.max_update_bytes:
            self._actions.append(Tell(f"our update has {len(pending.blob)} bytes, more than is read", warning=True))
            self.phase, self._retry_at_s = Phase.WAITING, math.inf
        elif len(pending.blob) > chunk_bytes:
            self._actions.append(self._letters.offer(pending))
        else:
            self._actions.append(self._letters.update(pending))

    def _on_chunks_asked(self, event: ChunksAsked) -> None:
        wanted, pending, work = event.wanted, self._pending, self._work
        if pending is None or work is None or not work.is_of(wanted.run_id, wanted.round_number):
            return
        self._heard()
        self._retry_wait_s = RESEND_S
        self._retry_at_s = self._now.monotonic_s + MAX_WAIT_S
        self._actions += self._letters.chunks(pending, work.announcement.chunk_bytes, wanted.first, wanted.count)

    def _on_receipt_arrived(self, event: ReceiptArrived) -> None:
        receipt, work = event.receipt, self._work
        if receipt.round_number == 0 and receipt.outcome == "refused":
            self._tell_refusal(f"a message of ours was refused: {receipt.reason}: {receipt.detail}")
            return
        if self.phase is not Phase.SENDING or work is None or not work.is_of(receipt.run_id, receipt.round_number):
            return
        self._heard()
        self._retry_at_s = math.inf
        self.phase = Phase.WAITING
        if receipt.outcome == "refused":
            self._actions.append(
                Tell(f"update of round {work.number} refused: {receipt.reason}: {receipt.detail}", warning=True)
            )
            if receipt.reason not in PASSING_REASONS:
                self._failed = work.announcement
                self._forget_pending(accepted=False)
        if not work.reported:
            work.reported = True
            work.receipt_at_s = self._idle_since_s = self._now.monotonic_s
            self._actions.append(Measure(work.run_id, work.number))

    def _tell_refusal(self, text: str) -> None:
        """Say it once: whatever was refused will be sent again and again."""
        if text != self._last_refusal:
            self._last_refusal = text
            self._actions.append(Tell(text, warning=True))

    # -- reports

    def _on_measured(self, event: Measured) -> None:
        work = self._work
        if work is None or not work.is_of(event.run_id, event.round_number):
            return
        traffic = event.traffic.since(self._traffic_mark)
        self._traffic_mark = event.traffic.copy()
        report = work.report(traffic, event, event.cpu_s - self._cpu_mark_s)
        self._cpu_mark_s = event.cpu_s
        self._reports[work.number] = report
        while len(self._reports) > KEPT_REPORTS:
            del self._reports[min(self._reports)]
        self._actions.append(self._letters.report(work.run_id, work.number, report))

    def _forget_recorded(self, recorded: tuple[int, ...]) -> None:
        for number in recorded:
            self._reports.pop(number, None)

    def _resend_reports(self, before: int | None) -> None:
        for number, report in self._reports.items():
            if before is None or number < before:
                self._actions.append(self._letters.report(self._run_id, number, report))

    # -- the rest

    def _on_message_refused(self, event: MessageRefused) -> None:
        self._actions.append(Tell(f"message on {event.topic} refused: {event.reason}", warning=True))

    def _on_stop_asked(self, _event: StopAsked) -> None:
        self._stop_working()
        self._actions.append(self._letters.status(online=False))
        self._actions.append(End())
        self._over = True


def _read_model(payload: bytes | memoryview, announcement: RoundAnnouncement) -> Weights:
    """The weights of a model blob, proven to be the announced ones."""
    if len(payload) > announcement.model.size_bytes:
        raise PayloadError(Reason.TOO_LARGE, f"{len(payload)} bytes, {announcement.model.size_bytes} were announced")
    head, weights = decode(payload)
    header = wire.decode(head, BlobHeader).message
    if header.kind != "model":
        raise PayloadError(Reason.MALFORMED, f"a blob of kind {header.kind!r} on a model topic")
    if digest(weights) != announcement.model.sha256:
        raise PayloadError(Reason.WRONG_DIGEST, "the weights do not have the announced digest")
    return weights
