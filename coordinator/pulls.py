"""Large updates being fetched in chunks: one at a time, the others wait their turn, so memory stays bounded."""

import math
from dataclasses import dataclass, field

from schemas.chunks import Fetch, num_chunks
from schemas.errors import PayloadError, Reason
from schemas.messages import UpdateOffer
from schemas.topics import MAX_CHUNK_INDEX

MAX_RETRIES = 3
"""An agent that leaves a question and so many repetitions of it unanswered loses its turn, if others wait."""

TURN_S = 60.0
LEAST_BYTES_PER_S = 100_000
"""An agent that takes longer than `TURN_S` and the time of its update at this speed loses its turn, if others wait."""


@dataclass(slots=True)
class Pulls:
    """The offered updates of one round, in the order of their offers; the first is being fetched.

    Attributes:
        active: whose update is being fetched, or empty.
    """

    chunk_bytes: int
    active: str = ""
    _fetch: Fetch | None = None
    _turn_ends_s: float = math.inf
    _waiting: dict[str, UpdateOffer] = field(default_factory=dict)

    def offer(self, agent_id: str, offer: UpdateOffer) -> None:
        """Note an offer. A repeated one asks for what is still missing, another one takes the place of the old.

        Raises:
            PayloadError: too-large, as it would take more chunks than there are numbers for.
        """
        if num_chunks(offer.size_bytes, self.chunk_bytes) > MAX_CHUNK_INDEX + 1:
            raise PayloadError(Reason.TOO_LARGE, f"{offer.size_bytes} bytes in chunks of {self.chunk_bytes}")
        if agent_id == self.active and self._fetch is not None:
            if self._fetch.sha256 == offer.sha256:
                self._fetch.ask_again()
                return
            self._end_turn()
        self._waiting[agent_id] = offer

    def drop(self, agent_id: str) -> None:
        """Forget an agent's offer, and what was fetched of it."""
        if agent_id == self.active:
            self._end_turn()
        self._waiting.pop(agent_id, None)

    def ask_again(self) -> None:
        """The connection was lost, and with it what was on its way: ask for what is missing at once."""
        if self._fetch is not None:
            self._fetch.ask_again()

    def question(self, now_s: float) -> tuple[str, int, int] | None:
        """The chunks to ask for now, as (agent, first, count), or None."""
        if self._waiting and self._fetch is not None and self._is_too_slow(self._fetch, now_s):
            self._end_turn()
        if self._fetch is None:
            self._next_turn(now_s)
        wanted = self._fetch.question(now_s) if self._fetch is not None else None
        return None if wanted is None else (self.active, *wanted)

    def add(self, agent_id: str, index: int, payload: bytes | memoryview, now_s: float) -> Fetch | None:
        """Take a chunk; the fetch once it is complete, which ends the agent's turn.

        Raises:
            PayloadError: the chunk is not one of the blob that is being fetched from this agent.
        """
        if agent_id != self.active or self._fetch is None:
            return None
        fetch = self._fetch
        fetch.add(payload, index, now_s)
        if not fetch.complete:
            return None
        self._end_turn()
        return fetch

    @property
    def due_at_s(self) -> float:
        """When `question` may have something to ask; infinite when nothing was offered."""
        if self._fetch is not None:
            return self._fetch.due_at_s
        return -math.inf if self._waiting else math.inf

    def _is_too_slow(self, fetch: Fetch, now_s: float) -> bool:
        return fetch.unanswered >= MAX_RETRIES or now_s >= self._turn_ends_s

    def _end_turn(self) -> None:
        self.active, self._fetch = "", None

    def _next_turn(self, now_s: float) -> None:
        self.active = next(iter(self._waiting), "")
        if self.active:
            offer = self._waiting.pop(self.active)
            self._fetch = Fetch(offer.size_bytes, self.chunk_bytes, offer.sha256)
            self._turn_ends_s = now_s + TURN_S + offer.size_bytes / LEAST_BYTES_PER_S
