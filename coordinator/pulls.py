"""Large updates being fetched in chunks: one at a time, the others wait their turn, so memory stays bounded."""

from dataclasses import dataclass, field

from schemas.chunks import Assembly, num_chunks
from schemas.errors import PayloadError, Reason
from schemas.messages import UpdateOffer
from schemas.topics import MAX_CHUNK_INDEX

RETRY_S = 10.0
"""A chunk that was asked for and did not come in this time is asked for again."""

MAX_RETRIES = 3
"""An agent that does not answer so often loses its turn."""


@dataclass(slots=True)
class Pull:
    """One update on its way."""

    agent_id: str
    assembly: Assembly
    retry_at_s: float = 0.0
    retries: int = 0
    outstanding: int = 0


@dataclass(slots=True)
class Pulls:
    """The queue of offered updates of one round; the first is being fetched."""

    chunk_bytes: int
    active: Pull | None = None
    _queue: dict[str, UpdateOffer] = field(default_factory=dict)

    def offer(self, agent_id: str, offer: UpdateOffer) -> None:
        """Note an offer; a repeated one changes nothing, a different one replaces the agent's old one.

        Raises:
            PayloadError: too-large, as it would take more chunks than there are numbers for.
        """
        if num_chunks(offer.size_bytes, self.chunk_bytes) > MAX_CHUNK_INDEX + 1:
            raise PayloadError(
                Reason.TOO_LARGE, f"{offer.size_bytes} bytes in chunks of {self.chunk_bytes} are too many chunks"
            )
        if self.active and self.active.agent_id == agent_id:
            if self.active.assembly.sha256 == offer.sha256:
                self.active.retry_at_s = 0.0
                return
            self.active = None
        self._queue.pop(agent_id, None)
        self._queue[agent_id] = offer

    def drop(self, agent_id: str) -> None:
        """Forget an agent's offer."""
        if self.active and self.active.agent_id == agent_id:
            self.active = None
        self._queue.pop(agent_id, None)

    def due(self, now_s: float) -> tuple[str, int, int] | None:
        """The chunks to ask for now, as (agent, first, count), or None."""
        if self.active and self.active.retries > MAX_RETRIES:
            self.active = None
        if self.active is None and self._queue:
            agent_id = next(iter(self._queue))
            offer = self._queue.pop(agent_id)
            self.active = Pull(agent_id, Assembly(offer.size_bytes, self.chunk_bytes, offer.sha256))
        pull = self.active
        if pull is None or pull.assembly.complete or now_s < pull.retry_at_s:
            return None
        if pull.outstanding:
            pull.retries += 1
        first, count = pull.assembly.next_wanted()
        pull.outstanding = count
        pull.retry_at_s = now_s + RETRY_S
        return pull.agent_id, first, count

    def add(self, agent_id: str, index: int, payload: bytes | memoryview) -> memoryview | None:
        """Take a chunk; the whole blob once it is complete.

        Raises:
            PayloadError: the chunk is not one of the blob that is being fetched from this agent.
        """
        pull = self.active
        if pull is None or pull.agent_id != agent_id:
            return None
        pull.assembly.add(payload, index)
        pull.retries = 0
        pull.outstanding = max(0, pull.outstanding - 1)
        if not pull.outstanding:
            pull.retry_at_s = 0.0
        return pull.assembly.blob() if pull.assembly.complete else None

    @property
    def wake_at_s(self) -> float | None:
        """When `due` may have something to ask for."""
        if self.active is not None:
            return self.active.retry_at_s
        return 0.0 if self._queue else None
