"""Opens rounds: chooses the agents, wraps the model up, and invites them."""

import hashlib

from coordinator.events import Proceed, RoundTimes
from coordinator.open_round import OpenRound
from coordinator.outbox import Outbox
from coordinator.phases import Phase
from coordinator.pulls import Pulls
from coordinator.run_state import RunState
from coordinator.selection import Selector
from coordinator.strategy import Strategy
from schemas.messages import ModelOffer

UPDATE_SLACK_BYTES = 64 * 1024
"""An update may have twice the size of the model's blob, which leaves room for what strategies may add, and this."""


class Opening:
    """Begins each attempt at each round."""

    def __init__(self, state: RunState, out: Outbox, strategy: Strategy, selector: Selector) -> None:
        self._state = state
        self._out = out
        self._strategy = strategy
        self._select = selector

    def open(self) -> None:
        """Open the next round with the agents that are there; there are enough."""
        state = self._state
        selected = self._select(state.members.eligible(), state.rules, state.round_number + 1)
        state.open = open_round = self._make(selected)
        state.move(Phase.COLLECTING)
        self._out.event("round-opened", f"{len(selected)} devices asked")
        self._send_model(open_round, selected)
        for agent_id in selected:
            self._out.announce(agent_id)
        self._out.add(Proceed())

    def _make(self, selected: list[str]) -> OpenRound:
        state, number = self._state, self._state.round_number + 1
        blob = self._out.letters.model_blob(number, state.weights, state.sha256, state.examples)
        chunked = len(blob) > state.rules.chunk_bytes
        blob_sha256 = hashlib.sha256(blob).hexdigest() if chunked else None
        return OpenRound(
            number=number,
            attempt=state.attempt,
            selected=frozenset(selected),
            welcome=state.asked,
            deadline_s=state.now_s + state.rules.deadline_s,
            started_at=state.started_at.setdefault(number, state.now.utc_s),
            blob=blob,
            offer=ModelOffer(sha256=state.sha256, size_bytes=len(blob), blob_sha256=blob_sha256),
            max_update_bytes=min(state.rules.max_model_bytes, 2 * len(blob) + UPDATE_SLACK_BYTES),
            aggregator=self._strategy.aggregator(state.weights),
            times=RoundTimes(opened_s=state.now_s),
            pulls=Pulls(state.rules.chunk_bytes),
        )

    def _send_model(self, open_round: OpenRound, selected: list[str]) -> None:
        """To all at once, or to each of the selected; one that travels in chunks is fetched instead."""
        if open_round.offer.blob_sha256 is not None:
            return
        letters = self._out.letters
        # One broadcast beats many copies as soon as most of those who are there take part.
        if 2 * len(selected) > self._state.members.num_online:
            self._out.add(letters.model(open_round))
        else:
            self._out.add(*(letters.model(open_round, agent_id) for agent_id in selected))
