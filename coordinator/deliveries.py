"""What agents deliver: updates, whole or in chunks, and reports; each is taken, or refused with a reason.

What is inside an update is `screening.py`'s to check; when enough of them are there is the engine's to decide.
"""

from typing import Final

from coordinator.events import ChunkArrived, Record, ReportArrived, UpdateArrived, UpdateOffered
from coordinator.open_round import OpenRound
from coordinator.outbox import Outbox
from coordinator.quarantine import SHUT_OUT
from coordinator.run_state import RunState
from coordinator.screening import Expected, screen
from schemas.errors import PayloadError, Reason
from schemas.records import DeviceRecord

OUTDATED: Final = frozenset({Reason.WRONG_BASE, Reason.WRONG_RUN, Reason.STALE_ROUND})
"""Refusals of an update that was made for something else: the agent may yet make the right one."""


class Deliveries:
    """Takes what agents send for the open round, and the reports of rounds that are over."""

    def __init__(self, state: RunState, out: Outbox) -> None:
        self._state = state
        self._out = out

    def on_update_arrived(self, event: UpdateArrived) -> None:
        """A whole update."""
        open_round = self._wanted_by(event.agent_id, event.run_id, event.round_number)
        if open_round is not None:
            self._take_update(open_round, event.agent_id, event.payload)

    def on_update_offered(self, event: UpdateOffered) -> None:
        """An update that must be fetched."""
        open_round = self._wanted_by(event.agent_id, event.run_id, event.round_number)
        if open_round is None:
            return
        most = open_round.max_update_bytes
        try:
            if not 0 < event.offer.size_bytes <= most:
                raise PayloadError(Reason.TOO_LARGE, f"{event.offer.size_bytes} bytes offered, at most {most} are read")
            open_round.pulls.offer(event.agent_id, event.offer)
        except PayloadError as error:
            self._refuse(open_round, event.agent_id, error)

    def on_chunk_arrived(self, event: ChunkArrived) -> None:
        """A piece of an update; the last one completes it."""
        open_round = self._wanted_by(event.agent_id, event.run_id, event.round_number)
        if open_round is None:
            return
        try:
            fetch = open_round.pulls.add(event.agent_id, event.index, event.payload, self._state.now_s)
        except PayloadError as error:
            self._out.refuse_message(event.agent_id, error.reason, error.detail)
            return
        if fetch is None:
            return
        try:
            blob = fetch.blob(self._state.now_s)
        except PayloadError as error:
            self._refuse(open_round, event.agent_id, error)
        else:
            self._take_update(open_round, event.agent_id, blob)

    def ask_for_chunks(self, open_round: OpenRound) -> None:
        """Ask for the pieces that are due."""
        question = open_round.pulls.question(self._state.now_s)
        if question is not None:
            self._out.want_chunks(*question)

    def _wanted_by(self, agent_id: str, run_id: str, round_number: int) -> OpenRound | None:
        """The open round, when it wants this delivery; the checks here need no look inside it.

        In this order: member, run, round, selected, not counted yet.
        """
        state, out = self._state, self._out
        member = state.members.get(agent_id)
        if member is None:
            out.refuse_message(agent_id, Reason.UNKNOWN_AGENT, "an update from an agent that never announced itself")
            return None
        if member.quarantined:
            out.refuse_update(agent_id, round_number, Reason.QUARANTINED, SHUT_OUT, run_id)
            return None
        state.members.hear(member)
        if run_id != state.rules.run_id:
            detail = f"the run is {state.rules.run_id}"
            out.refuse_update(agent_id, round_number, Reason.WRONG_RUN, detail, run_id)
        elif state.open is not None and round_number == state.open.number:
            return self._wanted_in(state.open, agent_id)
        elif state.was_counted(agent_id, round_number):
            self._acknowledge_again(agent_id, round_number)
        elif not state.is_next(round_number):
            reason = Reason.STALE_ROUND if round_number <= state.round_number else Reason.FUTURE_ROUND
            detail = f"round {state.round_number} is the last closed one"
            out.refuse_update(agent_id, round_number, reason, detail)
        return None

    def _wanted_in(self, open_round: OpenRound, agent_id: str) -> OpenRound | None:
        if not open_round.takes_part(agent_id):
            self._out.refuse_update(agent_id, open_round.number, Reason.NOT_SELECTED, "not selected for this round")
        elif agent_id in open_round.accepted:
            self._acknowledge_again(agent_id, open_round.number)
        else:
            return open_round
        return None

    def _acknowledge_again(self, agent_id: str, round_number: int) -> None:
        self._out.refuse(agent_id, Reason.DUPLICATE, f"round {round_number}: counted already")
        self._out.accept(agent_id, round_number)

    def _take_update(self, open_round: OpenRound, agent_id: str, payload: bytes | memoryview) -> None:
        state, out = self._state, self._out
        member = state.members.get(agent_id)
        expected = Expected(
            run_id=state.rules.run_id,
            round_number=open_round.number,
            agent_id=agent_id,
            model=state.broadcast.model,
            model_sha256=state.broadcast.sha256,
            codec=state.rules.codecs.up if state.rules.codecs.up.needs else None,
            max_update_norm=state.rules.max_update_norm,
            max_bytes=open_round.max_update_bytes,
        )
        try:
            update = screen(payload, expected)
            open_round.aggregator.add(update.weights, update.num_examples, update.inspection)
        except PayloadError as error:
            self._refuse(open_round, agent_id, error)
            return
        open_round.pulls.drop(agent_id)
        out.ignored_fields += update.ignored_fields
        if member is not None:
            member.holds = state.broadcast.sha256
        open_round.accept(agent_id, update.num_examples, update.loss, state.now_s)
        out.accept(agent_id, open_round.number)

    def _refuse(self, open_round: OpenRound, agent_id: str, error: PayloadError) -> None:
        """Refuse an update for what it is. Its agent is not waited for any more, although a better one may come."""
        if error.reason not in OUTDATED:
            open_round.give_up(agent_id)
        self._out.refuse_update(agent_id, open_round.number, error.reason, error.detail)

    def on_report_arrived(self, event: ReportArrived) -> None:
        """An agent's measurements: recorded once, with what only the coordinator can see."""
        state, agent_id, number = self._state, event.agent_id, event.round_number
        member = state.members.get(agent_id)
        if member is None:
            self._out.refuse_message(
                agent_id, Reason.UNKNOWN_AGENT, "a report from an agent that never announced itself"
            )
            return
        if member.quarantined:
            self._out.refuse_message(agent_id, Reason.QUARANTINED, SHUT_OUT)
            return
        started_at = state.started_at.get(number) if event.run_id == state.rules.run_id else None
        if started_at is None:
            self._refuse_report(event)
            return
        if number == state.round_number:
            state.unreported.discard(agent_id)
        if member.add_report(number):
            record = DeviceRecord(
                run_id=event.run_id,
                round_number=number,
                agent_id=agent_id,
                started_at=started_at,
                latency_s=state.latency_s(number, agent_id),
                report=event.report,
            )
            self._out.add(Record(record))

    def _refuse_report(self, event: ReportArrived) -> None:
        state = self._state
        if event.run_id != state.rules.run_id:
            self._out.refuse_message(event.agent_id, Reason.WRONG_RUN, f"a report of run {event.run_id}")
        elif not state.is_next(event.round_number):
            reason = Reason.STALE_ROUND if event.round_number <= state.round_number else Reason.FUTURE_ROUND
            self._out.refuse_message(event.agent_id, reason, f"a report of round {event.round_number}")
