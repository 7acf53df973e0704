"""What an agent holds from round to round: the pending update, and what its training carries.

Both change only by what the coordinator says of the run: an update is settled by the round being closed, a carry
takes effect by the update having been accepted. Their files are `spool.py`'s.
"""

from edge_agent.agent_state import AgentState
from edge_agent.events import ForgetCarriesBefore, ForgetOtherRuns, ForgetUpdate
from edge_agent.outbox import Outbox


class Holdings:
    """Keeps what is held in line with what the coordinator says was accepted."""

    def __init__(self, state: AgentState, out: Outbox) -> None:
        self._state = state
        self._out = out

    def is_outdated(self, run_id: str, closed_round: int) -> bool:
        """True for news that were overtaken by newer ones on their way; otherwise notes how far the run is."""
        if run_id == self._state.run_id and closed_round < self._state.closed_round:
            return True
        self._state.closed_round = closed_round
        return False

    def settle(self, run_id: str, closed_round: int, last_accepted_round: int) -> None:
        """Take the coordinator's word on which rounds are closed and which of our updates counted."""
        if run_id != self._state.run_id:
            self._begin_run(run_id)
        pending = self._state.pending
        if pending is not None and pending.round_number <= closed_round:
            self.forget_pending(accepted=pending.round_number == last_accepted_round)
        # Carries of later rounds stay: should the coordinator have fallen back to an older checkpoint, they are not
        # used (the one of the last accepted round is) and are replaced when their round closes again.
        carries = self._state.carries
        if any(number < last_accepted_round for number in carries):
            self._state.carries = {n: carry for n, carry in carries.items() if n >= last_accepted_round}
            self._out.add(ForgetCarriesBefore(run_id, last_accepted_round))

    def _begin_run(self, run_id: str) -> None:
        state = self._state
        self._out.add(ForgetOtherRuns(run_id))
        state.run_id, state.carries = run_id, {}
        if state.pending is not None and state.pending.run_id != run_id:
            state.pending = None

    def forget_pending(self, *, accepted: bool) -> None:
        """The update will not be asked for again; what it carried takes effect if it was `accepted`."""
        pending = self._state.pending
        if pending is None:
            return
        if accepted and pending.carry:
            self._state.carries[pending.round_number] = pending.carry
        self._out.add(ForgetUpdate(pending.run_id, pending.round_number, accepted))
        self._state.pending = None
