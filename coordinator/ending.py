"""How a run ends: after its last round or at its target, when it was asked to, or when it cannot go on."""

from coordinator.events import End
from coordinator.outbox import Outbox
from coordinator.phases import Phase
from coordinator.run_state import RunState


class Ending:
    """The last reports, the last words and the end."""

    def __init__(self, state: RunState, out: Outbox) -> None:
        self._state = state
        self._out = out

    def has_come(self) -> bool:
        """True when no further round is to be opened."""
        return self._state.round_number >= self._state.rules.rounds or self._target_reached()

    def begin(self) -> None:
        """Wait a moment for the reports of the last round."""
        state = self._state
        state.move(Phase.ENDING)
        state.until_s = state.now_s + state.rules.report_grace_s
        accepted = state.closed.accepted if state.closed else ()
        state.unreported = {agent_id for agent_id in accepted if self._may_still_report(agent_id)}

    @property
    def give_up_at_s(self) -> float:
        """When the end comes although the broker is out of reach: everything is on disk."""
        return self._state.lost_at_s + self._state.rules.patience_s

    def finish_if_due(self) -> None:
        """End the run when every report is there, or when their time is up."""
        state = self._state
        if state.connected:
            due = state.now_s >= state.until_s or not state.unreported
        else:
            due = state.now_s >= self.give_up_at_s
        if due:
            self.finish("finished", self._closing_words(), say_goodbye=state.connected)

    def finish(self, outcome: str, detail: str, *, say_goodbye: bool) -> None:
        """End the run here and now; `say_goodbye` only when the federation was ours."""
        state, out = self._state, self._out
        if self._target_reached():
            out.event("target-reached", self._closing_words())
        out.event(outcome, detail, durable=True)
        state.open = None
        if say_goodbye:
            phase = outcome if outcome != "stopped" else "waiting"
            for agent_id in state.members.online():
                out.standing(agent_id, phase, detail)
            out.status(online=False)
        state.move(Phase.OVER)
        out.add(End(outcome, detail))

    def _target_reached(self) -> bool:
        accuracy = self._state.closed.accuracy if self._state.closed else None
        target = self._state.rules.target_accuracy
        return target is not None and accuracy is not None and accuracy >= target

    def _may_still_report(self, agent_id: str) -> bool:
        member = self._state.members.get(agent_id)
        if member is None or self._state.round_number in member.reports:
            return False
        # Those that a resumed run knows have not had the time to come back.
        return member.online or not member.instance

    def _closing_words(self) -> str:
        accuracy = self._state.closed.accuracy if self._state.closed else None
        reached = f", test accuracy {accuracy:.2%}" if accuracy is not None else ""
        return f"after round {self._state.round_number}{reached}"
