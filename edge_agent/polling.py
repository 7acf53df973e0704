"""How long an agent has heard nothing, and when it asks what is going on: an announcement may have been lost."""

import math

from edge_agent.agent_state import AgentState
from edge_agent.outbox import Outbox

POLL_S = 20.0
"""After hearing nothing for so long, ask what is going on; then after twice as long, up to `MAX_WAIT_S`, until
there is something new."""

MAX_WAIT_S = 120.0


class Polling:
    """Asks the coordinator for its word.

    Attributes:
        due_s: when to ask.
        asked: the coordinator's next word may be the answer to our question.
    """

    def __init__(self, state: AgentState, out: Outbox) -> None:
        self._state = state
        self._out = out
        self._wait_s = POLL_S
        self._news: tuple[object, ...] = ()
        self.due_s = math.inf
        self.asked = False

    def heard(self, *news: object) -> None:
        """The coordinator spoke to us, or we to it: no need to ask for a while, a longer one when nothing is new."""
        if not news or news != self._news:
            self._wait_s = POLL_S
        self._news = news
        self.asked = False
        self.due_s = self._state.now_s + self._wait_s

    def ask_if_due(self) -> None:
        """Ask what is going on, and wait longer for the answer each time."""
        if self._state.now_s >= self.due_s:
            self._wait_s = min(2 * self._wait_s, MAX_WAIT_S)
            self.asked = True
            self.due_s = self._state.now_s + self._wait_s
            self._out.add(self._out.letters.ask_state(self._state.held, self._state.failure))
