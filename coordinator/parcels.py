"""The ways in which one round's model reaches agents: as a difference, from the run's seed, or whole."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from coordinator.broadcast import Broadcast
from coordinator.members import Member
from schemas.codecs import CodecSpec
from schemas.messages import ModelOffer
from schemas.weights import prefix

FOLLOWING_MINOR = 2
"""From this schema minor on, agents can be sent differences."""


@dataclass(frozen=True, slots=True, eq=False)
class Parcel:
    """One of the ways: what an announcement says of it, and the blob."""

    offer: ModelOffer
    blob: bytes

    @property
    def is_pushed(self) -> bool:
        """True when it is sent without being asked for."""
        return self.offer.blob_sha256 is None and not self.offer.from_seed


@dataclass
class Parcels:
    """Which way a round's model takes to whom.

    Attributes:
        is_first: the model is the plan's first one, which agents can derive.
        codec: of models; fp32 sends everyone the whole model.
        write_whole, write_difference: make the blobs, when they are needed.
        asked_whole: agents that can do nothing with a difference, for whatever reason.
    """

    broadcast: Broadcast
    is_first: bool
    codec: CodecSpec
    chunk_bytes: int
    write_whole: Callable[[], bytes]
    write_difference: Callable[[], bytes]
    asked_whole: set[str] = field(default_factory=set)

    def to(self, agent_id: str, member: Member) -> Parcel:
        """What this agent is offered."""
        if not self.is_followed_by(member):
            return self.plain
        if agent_id in self.asked_whole:
            return self.whole
        if self.is_first:
            return self.derived
        if self.difference is not None and member.holds in (self.broadcast.base_sha256, self.broadcast.sha256):
            return self.difference
        return self.whole

    def is_followed_by(self, member: Member) -> bool:
        """True for an agent that holds on to each model, so that the next one can be a difference."""
        able = member.minor >= FOLLOWING_MINOR and self.codec.needs <= member.codecs
        return able and not self.codec.is_identity

    @property
    def whole_bytes(self) -> int:
        """About the size of a blob with the whole model, which need not be made for this."""
        return sum(array.nbytes for array in self.broadcast.model.values())

    @cached_property
    def plain(self) -> Parcel:
        """The whole model, for those who follow no differences."""
        return self._parcel(self.write_whole(), {})

    @cached_property
    def whole(self) -> Parcel:
        """The whole model, to be held on to."""
        return self._parcel(self.plain.blob, {"codec": str(self.codec)})

    @cached_property
    def derived(self) -> Parcel:
        """Nothing, unless it is asked for."""
        return self._parcel(self.plain.blob, {"codec": str(self.codec), "from_seed": True})

    @cached_property
    def difference(self) -> Parcel | None:
        """What changed since the model before."""
        if self.broadcast.packed is None:
            return None
        said = {"codec": str(self.codec), "base": prefix(self.broadcast.base_sha256)}
        return self._parcel(self.write_difference(), said)

    def _parcel(self, blob: bytes, said: Mapping[str, object]) -> Parcel:
        blob_sha256 = hashlib.sha256(blob).hexdigest() if len(blob) > self.chunk_bytes else None
        offer = ModelOffer(sha256=self.broadcast.sha256, size_bytes=len(blob), blob_sha256=blob_sha256)
        return Parcel(offer.model_copy(update=said), blob)
