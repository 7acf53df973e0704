"""Gets the model of a round, whole or in chunks, and takes it only if it is the announced one."""

import math

from edge_agent.agent_state import AgentState
from edge_agent.events import ChunkArrived, ModelArrived, StartTraining
from edge_agent.outbox import Outbox
from edge_agent.phases import Phase
from edge_agent.polling import Polling
from edge_agent.round_in_work import RoundInWork
from edge_agent.workbench import Workbench
from schemas import wire
from schemas.chunks import Fetch
from schemas.errors import PayloadError, Reason
from schemas.messages import BlobHeader, RoundAnnouncement
from schemas.weights import Weights, decode, digest

MODEL_WAIT_S = 2.0
"""How long after the announcement the model may take before it is asked for."""

MODEL_RETRY_S = 10.0
"""After that it is asked for again after this time. Chunks have their own waits: see `schemas.chunks.Fetch`."""


class Fetching:
    """The way from an announcement to the start of training."""

    def __init__(self, state: AgentState, out: Outbox, bench: Workbench, polling: Polling) -> None:
        self._state = state
        self._out = out
        self._bench = bench
        self._polling = polling
        self._early: ModelArrived | None = None

    def begin(self, work: RoundInWork) -> None:
        """Wait for the model of a round, or fetch it."""
        offer = work.announcement.model
        if offer.blob_sha256 is None:
            self._state.retry_at_s = self._state.now_s + MODEL_WAIT_S
            if self._early is not None:
                self._try_model(work, self._early)
            return
        try:
            work.fetch = Fetch(offer.size_bytes, work.announcement.chunk_bytes, offer.blob_sha256)
        except (PayloadError, MemoryError) as error:
            self._bench.fail(work, f"round {work.number}: no room for a model of {offer.size_bytes} bytes: {error}")
        else:
            self.ask(work)

    def go_on(self, work: RoundInWork) -> None:
        """The connection is back: whatever was on its way may be lost."""
        self._state.retry_at_s = self._state.now_s + MODEL_WAIT_S
        if work.fetch is not None:
            work.fetch.ask_again()
            self.ask(work)

    def ask(self, work: RoundInWork) -> None:
        """Ask for the model, or for the chunks that are due."""
        now_s, fetch, letters = self._state.now_s, work.fetch, self._out.letters
        if fetch is None:
            self._out.add(letters.ask_model(work.run_id, work.number))
            self._state.retry_at_s = now_s + MODEL_RETRY_S
            return
        question = fetch.question(now_s)
        if question is not None:
            self._out.add(letters.ask_chunks(work.run_id, work.number, *question))
        self._state.retry_at_s = fetch.due_at_s

    def on_model_arrived(self, event: ModelArrived) -> None:
        """A whole model, wanted or not."""
        work = self._state.working_on(event.run_id, event.round_number)
        if work is None:
            # The model usually comes just before its announcement.
            self._early = event
        elif self._state.phase is Phase.FETCHING:
            self._try_model(work, event)

    def on_chunk_arrived(self, event: ChunkArrived) -> None:
        """A piece of a model; the last one completes it."""
        work = self._state.working_on(event.run_id, event.round_number)
        if work is None or work.fetch is None:
            return
        self._polling.heard()
        now_s = self._state.now_s
        try:
            work.fetch.add(event.payload, event.index, now_s)
            if work.fetch.complete:
                self._try_model(work, ModelArrived(event.run_id, event.round_number, work.fetch.blob(now_s)))
                return
        except PayloadError as error:
            self._out.tell(f"chunk {event.index} of round {work.number} refused: {error}", warning=True)
        self.ask(work)

    def _try_model(self, work: RoundInWork, event: ModelArrived) -> None:
        if not work.is_of(event.run_id, event.round_number):
            return
        self._early = None
        try:
            weights = _read_model(event.payload, work.announcement)
        except PayloadError as error:
            text = f"model of round {work.number} refused: {error}"
            if work.fetch is not None and work.fetch.complete:
                # Its hash is the announced one: it would be the same again.
                self._bench.fail(work, text)
            else:
                self._out.tell(text, warning=True)
            return
        state = self._state
        work.model_at_s = state.now_s
        work.fetch = None
        state.phase = Phase.TRAINING
        state.retry_at_s = math.inf
        carry = state.carries.get(work.announcement.last_accepted_round, {})
        self._out.add(StartTraining(work.announcement, weights, carry))


def _read_model(payload: bytes | memoryview, announcement: RoundAnnouncement) -> Weights:
    """The weights of a model blob, proven to be the announced ones."""
    if len(payload) > announcement.model.size_bytes:
        raise PayloadError(Reason.TOO_LARGE, f"{len(payload)} bytes, {announcement.model.size_bytes} were announced")
    head, weights = decode(payload)
    header = wire.decode(head, BlobHeader).message
    if header.kind != "model":
        raise PayloadError(Reason.MALFORMED, f"a blob of kind {header.kind!r} on a model topic")
    if digest(weights) != announcement.model.sha256:
        raise PayloadError(Reason.WRONG_DIGEST, "the weights do not have the announced digest")
    return weights
