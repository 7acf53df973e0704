"""Gets the model of a round, whole, in chunks, as a difference or from the run's seed, and takes it only if it is the
announced one."""

import math

from edge_agent.agent_state import AgentState
from edge_agent.compression import ModelBlob, without_residual
from edge_agent.events import (
    ChunkArrived,
    DeriveModel,
    HeldModel,
    KeepModel,
    ModelArrived,
    ModelDerived,
    StartTraining,
)
from edge_agent.outbox import Outbox
from edge_agent.phases import Phase
from edge_agent.polling import MAX_WAIT_S, Polling
from edge_agent.round_in_work import RoundInWork
from edge_agent.workbench import Workbench
from schemas.chunks import Fetch
from schemas.errors import PayloadError
from schemas.weights import Weights, digest, prefix

MODEL_WAIT_S = 2.0
"""How long after the announcement the model may take before it is asked for."""

MODEL_RETRY_S = 10.0
"""After that it is asked for again after this time, then after twice as long, and so on: where nothing comes because
many ask, asking more would make it worse. Chunks have their own waits: see `schemas.chunks.Fetch`."""


class Fetching:
    """The way from an announcement to the start of training."""

    def __init__(self, state: AgentState, out: Outbox, bench: Workbench, polling: Polling) -> None:
        self._state = state
        self._out = out
        self._bench = bench
        self._polling = polling
        self._early: tuple[str, int, ModelBlob] | None = None
        self._wait_s = MODEL_RETRY_S

    def begin(self, work: RoundInWork) -> None:
        """Take the model of a round from what is there, make it, wait for it, or fetch it."""
        state, offer = self._state, work.announcement.model
        early, self._early = self._early, None
        self._wait_s = MODEL_RETRY_S
        if state.held is not None and state.held.sha256 == offer.sha256:
            self._start(work, state.held.weights)
        elif offer.from_seed:
            state.retry_at_s = math.inf
            work.deriving = True
            self._out.add(DeriveModel(work.announcement))
        elif self._lacks_base(work):
            self.ask(work)
        elif offer.blob_sha256 is not None:
            self._fetch(work)
        else:
            state.retry_at_s = state.now_s + MODEL_WAIT_S
            if early is not None and work.is_of(*early[:2]):
                self._try_model(work, early[2])

    def _fetch(self, work: RoundInWork) -> None:
        """Ask for the model now, in chunks if it is large."""
        offer = work.announcement.model
        if offer.blob_sha256 is None:
            self.ask(work)
            return
        try:
            work.fetch = Fetch(offer.size_bytes, work.announcement.chunk_bytes, offer.blob_sha256)
        except (PayloadError, MemoryError) as error:
            self._bench.fail(work, f"round {work.number}: no room for a model of {offer.size_bytes} bytes: {error}")
        else:
            self.ask(work)

    def go_on(self, work: RoundInWork) -> None:
        """The connection is back: whatever was on its way may be lost.

        Chunks are asked for once the coordinator has shown that it is there: what is asked before may be lost too.
        """
        if work.deriving:
            return
        self._wait_s = MODEL_RETRY_S
        self._state.retry_at_s = self._state.now_s + MODEL_WAIT_S
        if work.fetch is not None:
            work.cut_off = True
            work.fetch.ask_again()

    def note_absence(self) -> None:
        """The coordinator is gone, or another one is there: it knows of no question."""
        if self._state.work is not None:
            self._state.work.cut_off = True

    def on_announced_again(self) -> None:
        """This very work is still wanted: ask for what was on its way when one side was away."""
        work = self._state.work
        if work is None or not work.cut_off:
            return
        work.cut_off = False
        if self._state.phase is Phase.FETCHING and work.fetch is not None:
            work.fetch.ask_again()
            self.ask(work)

    def ask(self, work: RoundInWork) -> None:
        """Ask for the model, or for the chunks that are due."""
        now_s, fetch, letters = self._state.now_s, work.fetch, self._out.letters
        if fetch is None:
            want = letters.ask_whole_model if self._lacks_base(work) else letters.ask_model
            self._out.add(want(work.run_id, work.number))
            self._state.retry_at_s = now_s + self._wait_s
            self._wait_s = min(2 * self._wait_s, MAX_WAIT_S)
            return
        question = fetch.question(now_s)
        if question is not None:
            self._out.add(letters.ask_chunks(work.run_id, work.number, *question))
        self._state.retry_at_s = fetch.due_at_s

    def on_model_arrived(self, event: ModelArrived) -> None:
        """A whole model, or a difference, wanted or not."""
        work = self._state.working_on(event.run_id, event.round_number)
        wanting = work if self._state.phase is Phase.FETCHING else None
        try:
            blob = ModelBlob.of(event.payload, wanting.announcement.model if wanting else None)
        except PayloadError as error:
            self._tell_refused(event, error)
            if wanting is not None:
                self._cannot_use(wanting, error)
            return
        self._follow(event, blob)
        if work is None:
            # The model usually comes before its announcement.
            blob.prepare()
            self._early = (event.run_id, event.round_number, blob)
        elif wanting is not None:
            self._try_model(wanting, blob)

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
                self.on_model_arrived(ModelArrived(event.run_id, event.round_number, work.fetch.blob(now_s)))
                return
        except PayloadError as error:
            self._out.tell(f"chunk {event.index} of round {work.number} refused: {error}", warning=True)
        self.ask(work)

    def on_model_derived(self, event: ModelDerived) -> None:
        """The plan's first model was made here: it is taken if it is the announced one, and fetched otherwise."""
        work = self._state.working_on(event.run_id, event.round_number, Phase.FETCHING)
        if work is None or not work.deriving:
            return
        work.deriving = False
        sha256 = digest(event.weights) if event.weights is not None else ""
        if event.weights is not None and sha256 == work.announcement.model.sha256:
            self._start(work, event.weights)
            return
        why = event.error or f"it is {sha256[:12]} instead of {work.announcement.model.sha256[:12]}"
        self._out.tell(f"the first model cannot be made here ({why}): it is fetched")
        self._fetch(work)

    def _follow(self, event: ModelArrived, blob: ModelBlob) -> None:
        """Move the model that is held by the difference that came, if it is one from it."""
        state = self._state
        try:
            held = blob.follow(state.held)
        except PayloadError as error:
            self._tell_refused(event, error)
            return
        if held is not None:
            self._hold(event.run_id, held)

    def _tell_refused(self, event: ModelArrived, error: PayloadError) -> None:
        self._out.tell(f"model of round {event.round_number} refused: {error}", warning=True)

    def _try_model(self, work: RoundInWork, blob: ModelBlob) -> None:
        self._early = None
        state, offer = self._state, work.announcement.model
        if state.held is not None and state.held.sha256 == offer.sha256:
            self._start(work, state.held.weights)
            return
        try:
            weights = blob.whole(work.announcement)
        except PayloadError as error:
            self._cannot_use(work, error)
        else:
            self._start(work, weights)

    def _cannot_use(self, work: RoundInWork, error: PayloadError) -> None:
        if work.announcement.model.base is None:
            self._refuse(work, f"model of round {work.number} refused: {error}")
        elif not self._lacks_base(work):
            # The difference does not lead to the announced model: start afresh.
            self._state.held = work.fetch = None
            self.ask(work)

    def _refuse(self, work: RoundInWork, text: str) -> None:
        if work.fetch is not None and work.fetch.complete:
            # Its hash is the announced one: it would be the same again.
            self._bench.fail(work, text)
        else:
            self._out.tell(text, warning=True)

    def _lacks_base(self, work: RoundInWork) -> bool:
        """True when the announced difference is from a model that is not held."""
        base, held = work.announcement.model.base, self._state.held
        return base is not None and (held is None or prefix(held.sha256) != base)

    def _start(self, work: RoundInWork, weights: Weights) -> None:
        state, announcement = self._state, work.announcement
        work.deriving = False
        work.model_at_s = state.now_s
        work.fetch = None
        if announcement.model.codec is None:
            state.held = None
        elif state.held is None or state.held.sha256 != announcement.model.sha256:
            self._hold(work.run_id, HeldModel(announcement.model.sha256, weights))
        state.phase = Phase.TRAINING
        state.retry_at_s = math.inf
        carry, work.residual = without_residual(state.carries.get(announcement.last_accepted_round, {}))
        work.model = weights
        self._out.add(StartTraining(announcement, weights, carry))

    def _hold(self, run_id: str, held: HeldModel) -> None:
        self._state.held = held
        self._out.add(KeepModel(run_id, held))
