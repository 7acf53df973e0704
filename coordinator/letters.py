"""What the coordinator says to agents, as `Publish` actions: one method per message, no decisions."""

from dataclasses import dataclass, field

from coordinator.broadcast import Broadcast
from coordinator.events import Publish
from coordinator.members import Member
from coordinator.open_round import OpenRound
from coordinator.parcels import Parcel
from coordinator.rules import RoundRules
from schemas import chunks, wire
from schemas.identifiers import COORDINATOR_ID
from schemas.messages import (
    BlobHeader,
    ChunksWanted,
    CoordinatorStatus,
    ModelOffer,
    Receipt,
    RoundAnnouncement,
    Standing,
)
from schemas.topics import Address, Kind
from schemas.versions import CURRENT
from schemas.weights import encode

STANDING_EXPIRY_S = 600


@dataclass(slots=True)
class Letters:
    """Writes the messages of one run, each in the schema minor of the agent that it goes to.

    Most agents are told the same, word for word, so what was written for one is kept for the next.

    Attributes:
        minor: what all agents that are there understand: of models, which may go to all of them.
    """

    rules: RoundRules
    minor: int = CURRENT.minor
    _written_for: object = None
    _announcements: dict[tuple[object, ...], bytes] = field(default_factory=dict)

    def status(self, message: CoordinatorStatus) -> Publish:
        """The coordinator's status, retained unless it is a claim or answers one.

        Written in minor 0, as it also goes to agents that have not announced theirs yet.
        """
        retain = not (message.claim or message.answers)
        return Publish(Address(Kind.COORDINATOR_STATUS), wire.encode(message, 0), retain=retain)

    def model_blob(self, round_number: int, broadcast: Broadcast, num_examples: int) -> bytes:
        """The blob that carries the whole model of a round, the same for every agent."""
        header = self._model_header(round_number, broadcast, num_examples)
        return encode(broadcast.model, wire.encode(header, self.minor))

    def difference_blob(self, round_number: int, broadcast: Broadcast, num_examples: int) -> bytes:
        """The blob that carries the model of a round as its difference from the one before."""
        said = {"codec": str(self.rules.codecs.down), "delta_from": broadcast.base_sha256}
        header = self._model_header(round_number, broadcast, num_examples).model_copy(update=said)
        return encode(broadcast.packed or {}, wire.encode(header))

    def _model_header(self, round_number: int, broadcast: Broadcast, num_examples: int) -> BlobHeader:
        return BlobHeader(
            kind="model",
            run_id=self.rules.run_id,
            round_number=round_number,
            sender=COORDINATOR_ID,
            base_sha256=broadcast.sha256,
            num_examples=num_examples,
            num_batches=0,
        )

    def model(self, open_round: OpenRound, parcel: Parcel, agent_id: str | None = None) -> Publish:
        """The model to one agent, or to all at once."""
        kind = Kind.AGENT_MODEL if agent_id else Kind.MODEL
        address = Address(kind, agent_id or "", self.rules.run_id, open_round.number)
        return Publish(address, parcel.blob, expiry_s=self._round_expiry_s)

    def model_chunks(
        self, open_round: OpenRound, parcel: Parcel, agent_id: str, first: int, count: int
    ) -> list[Publish]:
        """Some chunks of the model to one agent; those beyond the last one are left out."""
        sha256 = parcel.offer.blob_sha256
        if sha256 is None:
            return []
        end = min(first + count, chunks.num_chunks(len(parcel.blob), self.rules.chunk_bytes))
        return [
            Publish(
                Address(Kind.MODEL_CHUNK, agent_id, self.rules.run_id, open_round.number, index),
                chunks.cut(parcel.blob, sha256, self.rules.chunk_bytes, index, self.minor),
                expiry_s=self._round_expiry_s,
            )
            for index in range(first, end)
        ]

    def announcement(self, open_round: OpenRound, agent_id: str, member: Member, remaining_s: float) -> Publish:
        """The invitation to a round, to one agent."""
        address = Address(Kind.ANNOUNCEMENT, agent_id)
        offer = open_round.parcels.to(agent_id, member).offer
        payload = self._announcement(open_round, offer, member, round(max(remaining_s, 0.0), 3))
        return Publish(address, payload, expiry_s=max(1, int(remaining_s)))

    def _announcement(self, open_round: OpenRound, offer: ModelOffer, member: Member, deadline_s: float) -> bytes:
        attempt = (open_round.number, open_round.attempt, deadline_s, self.rules)
        if self._written_for != attempt:
            self._written_for, self._announcements = attempt, {}
        codec = self.rules.update_codec(member.codecs)
        personal = (member.last_accepted_round, member.recorded_reports, member.minor, offer, codec)
        payload = self._announcements.get(personal)
        if payload is None:
            message = RoundAnnouncement(
                run_id=self.rules.run_id,
                round_number=open_round.number,
                attempt=open_round.attempt,
                deadline_s=deadline_s,
                last_accepted_round=member.last_accepted_round,
                recorded_reports=member.recorded_reports,
                chunk_bytes=self.rules.chunk_bytes,
                max_update_bytes=open_round.max_update_bytes,
                plan=self.rules.plan,
                model=offer,
                codec=str(codec) if codec else None,
            )
            payload = self._announcements[personal] = wire.encode(message, member.minor)
        return payload

    def standing(self, agent_id: str, member: Member, message: Standing) -> Publish:
        """Where the run stands, to one agent."""
        personal = message.model_copy(
            update={"last_accepted_round": member.last_accepted_round, "recorded_reports": member.recorded_reports}
        )
        address = Address(Kind.STANDING, agent_id)
        return Publish(address, wire.encode(personal, member.minor), expiry_s=STANDING_EXPIRY_S)

    def receipt(self, agent_id: str, message: Receipt, minor: int) -> Publish:
        """What became of an update."""
        address = Address(Kind.RECEIPT, agent_id)
        return Publish(address, wire.encode(message, minor), expiry_s=STANDING_EXPIRY_S)

    def wanted(self, agent_id: str, message: ChunksWanted, minor: int) -> Publish:
        """Ask an agent for chunks of its update."""
        address = Address(Kind.WANTED, agent_id)
        return Publish(address, wire.encode(message, minor), expiry_s=self._round_expiry_s)

    @property
    def _round_expiry_s(self) -> int:
        return max(1, int(self.rules.deadline_s))
