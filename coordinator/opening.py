"""Opens rounds: chooses the agents, and invites them to the model that they have or are sent."""

from coordinator.dispatch import Dispatch
from coordinator.events import Proceed, RoundTimes
from coordinator.open_round import OpenRound
from coordinator.outbox import Outbox
from coordinator.phases import Phase
from coordinator.pulls import Pulls
from coordinator.run_state import RunState
from coordinator.strategy import Strategy

UPDATE_SLACK_BYTES = 64 * 1024
"""An update may have twice the size of the model's blob, which leaves room for what strategies may add, and this."""


class Opening:
    """Begins each attempt at each round."""

    def __init__(self, state: RunState, out: Outbox, strategy: Strategy, dispatch: Dispatch) -> None:
        self._state = state
        self._out = out
        self._strategy = strategy
        self._dispatch = dispatch

    def open(self) -> None:
        """Open the next round with the agents that are there; there are enough."""
        state = self._state
        selected = self._dispatch.select()
        state.open = self._make(selected)
        state.move(Phase.COLLECTING)
        self._dispatch.send(selected)
        for agent_id in selected:
            self._out.announce(agent_id)
        self._out.add(Proceed(hurry=True))

    def note(self, open_round: OpenRound) -> None:
        """Its announcements have left: have it noted that it is open."""
        open_round.times.broadcast_s = self._state.now_s - open_round.times.opened_s
        self._out.event("round-opened", f"{len(open_round.selected)} devices asked")

    def _make(self, selected: list[str]) -> OpenRound:
        state, rules, number = self._state, self._state.rules, self._state.round_number + 1
        parcels = self._dispatch.parcels()
        return OpenRound(
            number=number,
            attempt=state.attempt,
            selected=frozenset(selected),
            welcome=state.asked,
            deadline_s=state.now_s + rules.deadline_s,
            started_at=state.started_at.setdefault(number, state.now.utc_s),
            parcels=parcels,
            max_update_bytes=min(rules.max_model_bytes, 2 * parcels.whole_bytes + UPDATE_SLACK_BYTES),
            aggregator=self._strategy.aggregator(state.broadcast.model),
            times=RoundTimes(opened_s=state.now_s),
            pulls=Pulls(rules.chunk_bytes),
        )
