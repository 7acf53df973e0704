"""Sends a round's model to its agents: as soon as it is made, usually, and to those who missed that when it opens.

A model says nothing of which rounds are closed, and agents do nothing with one before its round is announced. So it
may go out while the checkpoint of the round before is being written; the announcement may not.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from coordinator.gathering import Gathering
from coordinator.members import Member
from coordinator.outbox import Outbox
from coordinator.parcels import Parcel, Parcels
from coordinator.run_state import RunState
from coordinator.selection import Selector
from schemas.weights import prefix


@dataclass(slots=True)
class _Sent:
    """One round's model, as far as it was sent ahead.

    Attributes:
        minor: the schema minor that its blobs are written in.
        parcels: by agent, what it was sent.
    """

    number: int
    minor: int
    ways: Parcels
    parcels: dict[str, Parcel] = field(default_factory=dict)


class Dispatch:
    """Wraps models up and sends them."""

    def __init__(self, state: RunState, out: Outbox, gathering: Gathering, selector: Selector) -> None:
        self._state = state
        self._out = out
        self._gathering = gathering
        self._select = selector
        self._sent: _Sent | None = None

    def select(self) -> list[str]:
        """The agents of the next round, sorted, as far as they are there."""
        state = self._state
        return self._select(state.members.eligible(), state.rules, state.round_number + 1)

    def send_ahead(self) -> None:
        """Send the next round's model now, unless that round may not come, or not soon."""
        if not self._is_certain():
            return
        sent = self._sent = self._begin()
        self._send(sent, self.select())

    def parcels(self) -> Parcels:
        """The next round's model, in the ways in which it reaches agents."""
        sent = self._sent
        if sent is None or (sent.number, sent.minor) != (self._state.round_number + 1, self._out.letters.minor):
            sent = self._sent = self._begin()
        return sent.ways

    def send(self, selected: Iterable[str]) -> None:
        """The round opens: send its model to those of its agents that do not have it yet."""
        self.parcels()
        sent, self._sent = self._sent, None
        if sent is not None:
            self._send(sent, [a for a in selected if sent.parcels.get(a) is not sent.ways.to(a, self._member(a))])

    def forget(self, agent_id: str) -> None:
        """This agent may have missed what was sent."""
        if self._sent is not None:
            self._sent.parcels.pop(agent_id, None)

    def forget_all(self) -> None:
        """Anybody may have missed what was sent."""
        if self._sent is not None:
            self._sent.parcels.clear()

    def _is_certain(self) -> bool:
        """True when only a failure can keep the next round from being opened at once."""
        state, rules = self._state, self._state.rules
        may_reach_target = rules.evaluate and rules.target_accuracy is not None
        may_come = state.round_number < rules.rounds and not may_reach_target
        return may_come and state.connected and self._gathering.is_enough()

    def _begin(self) -> _Sent:
        state, number = self._state, self._state.round_number + 1
        letters, broadcast, examples = self._out.letters, state.broadcast, state.examples
        ways = Parcels(
            broadcast=broadcast,
            is_first=number == 1,
            codec=state.rules.codecs.down,
            chunk_bytes=state.rules.chunk_bytes,
            write_whole=lambda: letters.model_blob(number, broadcast, examples),
            write_difference=lambda: letters.difference_blob(broadcast),
        )
        return _Sent(number, letters.minor, ways)

    def _send(self, sent: _Sent, selected: list[str]) -> None:
        """To all at once, or to each of the selected; what travels in chunks, or can be derived, is asked for."""
        receivers: dict[Parcel, list[str]] = {}
        for agent_id in selected:
            receivers.setdefault(sent.ways.to(agent_id, self._member(agent_id)), []).append(agent_id)
        for parcel, agent_ids in receivers.items():
            if parcel.is_pushed:
                self._push(sent, parcel, agent_ids)

    def _push(self, sent: _Sent, parcel: Parcel, agent_ids: list[str]) -> None:
        letters, members = self._out.letters, self._state.members
        if self._is_for_all(sent.ways, parcel, len(agent_ids)):
            self._out.add(letters.model(sent.number, parcel))
            agent_ids = members.online()
        else:
            self._out.add(*(letters.model(sent.number, parcel, agent_id) for agent_id in agent_ids))
        for agent_id in agent_ids:
            member = self._member(agent_id)
            if sent.ways.to(agent_id, member) is parcel:
                sent.parcels[agent_id] = parcel
            # Whoever did not get it says so when it is invited again.
            if member.holds and prefix(member.holds) == parcel.offer.base:
                member.holds = parcel.offer.sha256

    def _is_for_all(self, ways: Parcels, parcel: Parcel, num_receivers: int) -> bool:
        """One broadcast beats many copies as soon as most of those who are there take part.

        A difference also goes to those who do not, as long as it costs less than the whole models that would be
        needed when their turn comes.
        """
        online = self._state.members.num_online
        if 2 * num_receivers > online:
            return True
        spares_whole = online * len(parcel.blob) <= num_receivers * ways.whole_bytes
        return parcel is ways.difference and spares_whole

    def _member(self, agent_id: str) -> Member:
        member = self._state.members.get(agent_id)
        return member if member is not None else Member()
