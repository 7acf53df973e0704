"""Opens rounds: chooses the agents, wraps the model up, and invites them."""

from coordinator.events import Proceed, RoundTimes
from coordinator.members import Member
from coordinator.open_round import OpenRound
from coordinator.outbox import Outbox
from coordinator.parcels import Parcel, Parcels
from coordinator.phases import Phase
from coordinator.pulls import Pulls
from coordinator.run_state import RunState
from coordinator.selection import Selector
from coordinator.strategy import Strategy
from schemas.weights import prefix

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
        letters, broadcast, rules = self._out.letters, state.broadcast, state.rules
        parcels = Parcels(
            broadcast=broadcast,
            is_first=number == 1,
            codec=rules.codecs.down,
            chunk_bytes=rules.chunk_bytes,
            write_whole=lambda: letters.model_blob(number, broadcast, state.examples),
            write_difference=lambda: letters.difference_blob(broadcast),
        )
        return OpenRound(
            number=number,
            attempt=state.attempt,
            selected=frozenset(selected),
            welcome=state.asked,
            deadline_s=state.now_s + rules.deadline_s,
            started_at=state.started_at.setdefault(number, state.now.utc_s),
            parcels=parcels,
            max_update_bytes=min(rules.max_model_bytes, 2 * parcels.whole_bytes + UPDATE_SLACK_BYTES),
            aggregator=self._strategy.aggregator(broadcast.model),
            times=RoundTimes(opened_s=state.now_s),
            pulls=Pulls(rules.chunk_bytes),
        )

    def _send_model(self, open_round: OpenRound, selected: list[str]) -> None:
        """To all at once, or to each of the selected; what travels in chunks, or can be derived, is asked for."""
        receivers: dict[Parcel, list[str]] = {}
        for agent_id in selected:
            receivers.setdefault(open_round.parcels.to(agent_id, self._member(agent_id)), []).append(agent_id)
        for parcel, agent_ids in receivers.items():
            if parcel.is_pushed:
                self._push(open_round, parcel, agent_ids)

    def _push(self, open_round: OpenRound, parcel: Parcel, agent_ids: list[str]) -> None:
        letters, members = self._out.letters, self._state.members
        if self._is_for_all(open_round, parcel, len(agent_ids)):
            self._out.add(letters.model(open_round, parcel))
            agent_ids = members.online()
        else:
            self._out.add(*(letters.model(open_round, parcel, agent_id) for agent_id in agent_ids))
        for member in map(self._member, agent_ids):
            # Whoever did not get it says so when it is invited again.
            if member.holds and prefix(member.holds) == parcel.offer.base:
                member.holds = parcel.offer.sha256

    def _is_for_all(self, open_round: OpenRound, parcel: Parcel, num_receivers: int) -> bool:
        """One broadcast beats many copies as soon as most of those who are there take part.

        A difference also goes to those who do not, as long as it costs less than the whole models that would be
        needed when their turn comes.
        """
        online = self._state.members.num_online
        if 2 * num_receivers > online:
            return True
        spares_whole = online * len(parcel.blob) <= num_receivers * open_round.parcels.whole_bytes
        return parcel is open_round.parcels.difference and spares_whole

    def _member(self, agent_id: str) -> Member:
        member = self._state.members.get(agent_id)
        return member if member is not None else Member()
