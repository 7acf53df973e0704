"""A closed round until it is on disk: its checkpoint, its evaluation and its record, in whatever order they are done.

Only when the checkpoint is safe are agents told that the round is closed: until then a crash would open it again. The
record may come later, as a crash before it evaluates and records the round again. What must wait for the record is to
tell agents that their reports are kept: its sync is theirs too.
"""

import math

from coordinator.events import CheckpointSaved, Evaluate, Evaluated, Record, SaveCheckpoint
from coordinator.open_round import OpenRound
from coordinator.outbox import Outbox
from coordinator.phases import Phase
from coordinator.run_state import RunState


class Ledger:
    """Keeps what was closed."""

    def __init__(self, state: RunState, out: Outbox) -> None:
        self._state = state
        self._out = out
        self._opened_s = 0.0

    def save(self, open_round: OpenRound) -> None:
        """Have the round that has just closed written and evaluated."""
        state, out = self._state, self._out
        rules = state.rules
        record = open_round.record(rules.run_id, state.sha256, out.refused, out.ignored_fields)
        ending = {"target_accuracy": rules.target_accuracy, "rounds_planned": rules.rounds}
        state.closed = record.model_copy(update=ending)
        out.refused, out.ignored_fields = {}, 0
        self._opened_s = open_round.times.opened_s
        state.open = None
        state.move(Phase.SAVING)
        state.awaiting = {"checkpoint", "record"}
        if rules.evaluate:
            state.awaiting.add("evaluation")
        self._save()

    def take_up(self) -> None:
        """Go on after a crash between a round's checkpoint and its record.

        The checkpoint names reports that a power cut may have taken. It is written again without them, as they would
        pass for kept once the record is there.
        """
        state = self._state
        state.awaiting.add("checkpoint")
        state.move(Phase.SAVING)
        state.until_s = math.inf
        self._opened_s = state.now_s
        self._save()

    def on_checkpoint_saved(self, event: CheckpointSaved) -> None:
        """The round is closed for good: from now on agents are told so, and those left behind at once."""
        state = self._state
        if not self._note(event.round_number, "checkpoint", {"checkpoint_s": event.duration_s}):
            return
        state.durable_round = state.round_number
        for agent_id in state.counted:
            member = state.members.get(agent_id)
            if member is not None:
                member.last_accepted_round = state.round_number
        for agent_id in state.left_behind:
            self._out.standing(agent_id)
        state.left_behind = []

    def on_evaluated(self, event: Evaluated) -> None:
        """The new model was tried; a loss that is no number is left out."""
        loss = event.loss if math.isfinite(event.loss) else None
        measured = {"loss": loss, "accuracy": event.accuracy, "evaluate_s": event.duration_s}
        self._note(event.round_number, "evaluation", measured)

    def complete(self) -> bool:
        """Take the round's time when nothing but its record is missing; True when that is so."""
        state = self._state
        if state.closed is None or state.awaiting != {"record"} or state.phase is not Phase.SAVING:
            return False
        state.closed = state.closed.model_copy(update={"duration_s": state.now_s - self._opened_s})
        return True

    def record(self) -> None:
        """Record the complete round, unless that has been done."""
        state = self._state
        if state.closed is not None and state.awaiting == {"record"}:
            state.awaiting = set()
            self._out.add(Record(state.closed, durable=True))
            state.members.reports_are_durable()

    def _save(self) -> None:
        state = self._state
        if "evaluation" in state.awaiting:
            self._out.add(Evaluate(state.round_number, state.weights))
        self._out.add(SaveCheckpoint(state.round_number, state.weights, state.arrays(), state.snapshot()))

    def _note(self, round_number: int, what: str, measured: dict[str, float | None]) -> bool:
        state = self._state
        if state.closed is None or round_number != state.round_number or what not in state.awaiting:
            return False
        state.closed = state.closed.model_copy(update=measured)
        state.awaiting.discard(what)
        return True
