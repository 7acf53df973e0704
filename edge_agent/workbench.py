"""The round that an agent works on: begun, stopped, or given up because it cannot be done."""

import math

from edge_agent.agent_state import AgentState
from edge_agent.events import StopTraining
from edge_agent.outbox import Outbox
from edge_agent.phases import Phase
from edge_agent.round_in_work import RoundInWork
from schemas.messages import RoundAnnouncement


class Workbench:
    """Takes work up and puts it down."""

    def __init__(self, state: AgentState, out: Outbox) -> None:
        self._state = state
        self._out = out

    def begin(self, announcement: RoundAnnouncement) -> RoundInWork:
        """Drop whatever is in work for this round."""
        self.stop()
        state = self._state
        state.work = RoundInWork(announcement, state.now_s, idle_s=max(0.0, state.now_s - state.idle_since_s))
        state.phase = Phase.FETCHING
        return state.work

    def take_up(self, announcement: RoundAnnouncement) -> None:
        """Work that has its result already, which is asked for (again)."""
        state = self._state
        if work := state.working_on(announcement.run_id, announcement.round_number):
            work.announcement = announcement
        else:
            state.work = RoundInWork(announcement, state.now_s)

    def goes_on_with(self, announcement: RoundAnnouncement) -> bool:
        """True when this very work is being done, which then goes by the new announcement."""
        state = self._state
        if state.phase not in (Phase.FETCHING, Phase.TRAINING, Phase.KEEPING) or not state.work:
            return False
        if not state.work.same_as(announcement):
            return False
        if state.phase is Phase.KEEPING and state.work.announcement.attempt != announcement.attempt:
            state.retry_at_s = state.now_s  # whatever comes of it, this attempt wants to know
        if state.phase is Phase.FETCHING and state.work.announcement.model != announcement.model:
            return False  # it comes in another way
        state.work.announcement = announcement
        return True

    def stop(self) -> None:
        """Put down whatever is in work."""
        state = self._state
        if state.phase is Phase.TRAINING:
            self._out.add(StopTraining())
        if state.phase in (Phase.FETCHING, Phase.TRAINING, Phase.KEEPING):
            state.idle_since_s = state.now_s
        state.phase = Phase.IDLE
        state.work = state.failure = None
        state.retry_at_s = math.inf

    def fail(self, work: RoundInWork, text: str) -> None:
        """This work cannot be done: say so, and do not try again before something is different."""
        self._state.failed = work.announcement
        self.stop()
        self.excuse(work, text)

    def excuse(self, work: RoundInWork, text: str) -> None:
        """Tell the coordinator, which then does not wait for this update, and a person."""
        self._out.tell(text, warning=True)
        self._state.failure = work.failure(text)
        self._out.add(self._out.letters.ask_state(self._state.held, self._state.failure))

    def has_failed_at(self, announcement: RoundAnnouncement) -> bool:
        """True when this very attempt at this very work could not be done."""
        failed = self._state.failed
        return (
            failed is not None
            and RoundInWork(failed, 0.0).same_as(announcement)
            and failed.attempt == announcement.attempt
        )
