"""Makes an update of what was trained, and sends the same bytes until their receipt comes."""

import math

from edge_agent.agent_state import AgentState
from edge_agent.compression import compress_update, with_residual
from edge_agent.events import (
    CarryKept,
    ChunksAsked,
    KeepCarry,
    KeepUpdate,
    Measure,
    PendingUpdate,
    ReceiptArrived,
    TrainingFinished,
)
from edge_agent.holdings import Holdings
from edge_agent.outbox import Outbox
from edge_agent.phases import Phase
from edge_agent.polling import MAX_WAIT_S, Polling
from edge_agent.round_in_work import RoundInWork
from edge_agent.workbench import Workbench
from schemas.errors import Reason
from schemas.messages import RoundAnnouncement

RESEND_S = 10.0
"""An update without a receipt is sent again after this time, then after twice as long, and so on. Where the last
receipt took longer, after twice that: thousands that send again to a busy coordinator would keep it busy with that."""

PASSING_REASONS = frozenset(
    {
        Reason.UNKNOWN_AGENT,
        Reason.WRONG_RUN,
        Reason.STALE_ROUND,
        Reason.FUTURE_ROUND,
        Reason.NOT_SELECTED,
        Reason.DUPLICATE,
        Reason.QUARANTINED,
    }
)
"""Refusals that say nothing against the update itself. The same bytes may count in another attempt, and as the answer
may be late, they may already have done so: the update stays until its round is known to be closed."""


class Sending:
    """The way from trained weights to the receipt."""

    def __init__(self, state: AgentState, out: Outbox, bench: Workbench, holdings: Holdings, polling: Polling) -> None:
        self._state = state
        self._out = out
        self._bench = bench
        self._holdings = holdings
        self._polling = polling
        self._wait_s = RESEND_S
        self._first_wait_s = RESEND_S

    def on_training_finished(self, event: TrainingFinished) -> None:
        """The weights are there: wrap them up once, keep them, send them."""
        work = self._state.working_on(event.run_id, event.round_number, Phase.TRAINING)
        if work is None:
            return
        work.trained_at_s = self._state.now_s
        work.batches, work.examples, work.loss = event.num_batches, event.num_examples, event.loss
        work.made = made = self._wrap_up(work, event)
        self._state.phase = Phase.KEEPING
        self._wait_s = RESEND_S
        if made.carry:
            self.keep(made)
        else:
            self._go_out(made)

    def keep(self, made: PendingUpdate) -> None:
        """Have what an update carries put on the disk, (again) if it is full.

        It must be there before anyone can rest on the update. The update alone can be made again.
        """
        self._state.retry_at_s = math.inf
        self._out.add(KeepCarry(made.run_id, made.round_number, made.carry))

    def on_carry_kept(self, event: CarryKept) -> None:
        """What the update carries is safe, so that it can go out; or it is not, and the update stays here."""
        state = self._state
        work = state.working_on(event.run_id, event.round_number, Phase.KEEPING)
        if work is None or work.made is None:
            return
        if not event.error:
            self._go_out(work.made)
            return
        state.retry_at_s = state.now_s + self._wait_s
        self._wait_s = min(2 * self._wait_s, MAX_WAIT_S)
        self._bench.excuse(work, f"the update of round {work.number} is made and cannot be sent: {event.error}")

    def _go_out(self, made: PendingUpdate) -> None:
        state = self._state
        state.pending, state.failure = made, None
        if state.work is not None:
            state.work.made = None
        self.begin(made)
        self._out.add(KeepUpdate(made))

    def _wrap_up(self, work: RoundInWork, event: TrainingFinished) -> PendingUpdate:
        announcement, letters = work.announcement, self._out.letters
        sent = compress_update(announcement, letters.agent_id, work.model, event.weights, work.residual)
        return PendingUpdate(
            run_id=event.run_id,
            round_number=event.round_number,
            base_sha256=announcement.model.sha256,
            blob=letters.update_blob(announcement, event, sent.packed if sent else None),
            carry=with_residual(event.carry, sent.residual if sent else {}),
        )

    def awaits_receipt(self, announcement: RoundAnnouncement) -> bool:
        """True when the update for this very attempt was sent, and will be sent again unless its receipt comes."""
        work = self._state.working_on(announcement.run_id, announcement.round_number, Phase.SENDING)
        return work is not None and work.announcement.attempt == announcement.attempt

    def begin(self, pending: PendingUpdate) -> None:
        """Send the update of the round in work, as if for the first time."""
        self._wait_s = self._first_wait_s
        self._send(pending)

    def send_again(self, pending: PendingUpdate) -> None:
        """No receipt came: send the same bytes, and wait twice as long."""
        self._wait_s = min(2 * self._wait_s, MAX_WAIT_S)
        self._send(pending)

    def _send(self, pending: PendingUpdate) -> None:
        state, work = self._state, self._state.work
        if work is None:
            return
        state.phase = Phase.SENDING
        if math.isnan(work.sent_at_s):
            work.sent_at_s = state.now_s
        state.retry_at_s = state.now_s + self._wait_s
        if len(pending.blob) > work.announcement.max_update_bytes:
            state.phase, state.retry_at_s = Phase.WAITING, math.inf
            self._bench.excuse(work, f"our update has {len(pending.blob)} bytes, more than is read")
        elif len(pending.blob) > work.announcement.chunk_bytes:
            self._out.add(self._out.letters.offer(pending))
        else:
            self._out.add(self._out.letters.update(pending))

    def on_chunks_asked(self, event: ChunksAsked) -> None:
        """The coordinator fetches our update."""
        wanted, state = event.wanted, self._state
        work = state.working_on(wanted.run_id, wanted.round_number)
        if state.pending is None or work is None:
            return
        self._polling.heard()
        self._wait_s = RESEND_S
        state.retry_at_s = state.now_s + MAX_WAIT_S
        chunk_bytes = work.announcement.chunk_bytes
        self._out.add(*self._out.letters.chunks(state.pending, chunk_bytes, wanted.first, wanted.count))

    def on_receipt_arrived(self, event: ReceiptArrived) -> None:
        """The coordinator says what became of something that we sent."""
        receipt, state = event.receipt, self._state
        if receipt.round_number == 0 and receipt.outcome == "refused":
            self._out.tell_refusal(f"a message of ours was refused: {receipt.reason}: {receipt.detail}")
            return
        work = state.working_on(receipt.run_id, receipt.round_number, Phase.SENDING)
        if work is None:
            return
        self._polling.heard()
        self._first_wait_s = min(max(RESEND_S, 2 * (state.now_s - work.sent_at_s)), MAX_WAIT_S)
        state.retry_at_s = math.inf
        state.phase = Phase.WAITING
        if receipt.outcome == "refused":
            self._out.tell(f"update of round {work.number} refused: {receipt.reason}: {receipt.detail}", warning=True)
            if receipt.reason not in PASSING_REASONS:
                state.failed = work.announcement
                self._holdings.forget_pending(accepted=False)
        if not work.reported:
            work.reported = True
            work.receipt_at_s = state.idle_since_s = state.now_s
            self._out.add(Measure(work.run_id, work.number))
