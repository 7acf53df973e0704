"""What the coordinator says to agents, as `Publish` actions: one method per message, no decisions."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from coordinator.broadcast import Broadcast
from coordinator.events import Publish
from coordinator.members import Member
from coordinator.open_round import OpenRound
from coordinator.parcels import Parcel
from coordinator.rules import RoundRules
from schemas import chunks, wire
from schemas.codecs import CodecSpec
from schemas.identifiers import COORDINATOR_ID
from schemas.messages import (
    BlobHeader,
    ChunksWanted,
    CoordinatorStatus,
    DifferenceHeader,
    ModelOffer,
    Receipt,
    RoundAnnouncement,
    RoundCall,
    Standing,
    WireMessage,
)
from schemas.topics import Address, Kind
from schemas.versions import CURRENT
from schemas.weights import encode, prefix

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
    _announcements: dict[tuple[object, ...], RoundAnnouncement] = field(default_factory=dict)
    _payloads: dict[tuple[int, str, int], bytes] = field(default_factory=dict)
    _accepted: tuple[str, int, int] | None = None
    _acceptance: bytes = b""

    def status(self, message: CoordinatorStatus) -> Publish:
        """The coordinator's status, retained unless it is a claim or answers one.

        Written in minor 0, as it also goes to agents that have not announced theirs yet.
        """
        retain = not (message.claim or message.answers)
        return Publish(Address(Kind.COORDINATOR_STATUS), wire.encode(message, 0), retain=retain)

    def model_blob(self, round_number: int, broadcast: Broadcast, num_examples: int) -> bytes:
        """The blob that carries the whole model of a round, the same for every agent."""
        header = BlobHeader(
            kind="model",
            run_id=self.rules.run_id,
            round_number=round_number,
            sender=COORDINATOR_ID,
            base_sha256=broadcast.sha256,
            num_examples=num_examples,
            num_batches=0,
        )
        return encode(broadcast.model, wire.encode(header, self.minor))

    def difference_blob(self, broadcast: Broadcast) -> bytes:
        """The blob that carries the model of a round as its difference from the one before."""
        header = DifferenceHeader(
            codec=str(self.rules.codecs.down), base=prefix(broadcast.base_sha256), to=prefix(broadcast.sha256)
        )
        return encode(broadcast.packed or {}, wire.encode(header))

    def model(self, round_number: int, parcel: Parcel, agent_id: str | None = None) -> Publish:
        """The model to one agent, or to all at once."""
        kind = Kind.AGENT_MODEL if agent_id else Kind.MODEL
        address = Address(kind, agent_id or "", self.rules.run_id, round_number)
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

    def invitation(self, open_round: OpenRound, agent_id: str, member: Member, remaining_s: float) -> Publish:
        """The invitation to one agent, in fewer bytes where it knows the rest."""
        message = self._announcement(open_round, agent_id, member, round(max(remaining_s, 0.0), 3))
        model = message.model
        if model.base is None or model.blob_sha256 is not None or member.terms != message.terms:
            return self._complete(message, agent_id, member, remaining_s)
        payload = self._written(message, "call", member.minor, lambda: _call(message))
        return Publish(Address(Kind.CALL, agent_id), payload, expiry_s=max(1, int(remaining_s)))

    def _complete(self, message: RoundAnnouncement, agent_id: str, member: Member, remaining_s: float) -> Publish:
        address = Address(Kind.ANNOUNCEMENT, agent_id)
        member.terms = message.terms or ""
        payload = self._written(message, "complete", member.minor, lambda: message)
        return Publish(address, payload, expiry_s=max(1, int(remaining_s)))

    def _written(self, message: RoundAnnouncement, form: str, minor: int, make: Callable[[], WireMessage]) -> bytes:
        key = (id(message), form, minor)  # kept as long as what was written for it
        payload = self._payloads.get(key)
        if payload is None:
            payload = self._payloads[key] = wire.encode(make(), minor)
        return payload

    def _announcement(
        self, open_round: OpenRound, agent_id: str, member: Member, deadline_s: float
    ) -> RoundAnnouncement:
        offer = open_round.parcels.to(agent_id, member).offer
        codec = self.rules.update_codec(member.codecs)
        attempt = (open_round.number, open_round.attempt, deadline_s, self.rules)
        if self._written_for != attempt:
            self._written_for, self._announcements, self._payloads = attempt, {}, {}
        # The last record on disk is that of the round before the last one. Whether the report of that round, sent at
        # its end, came in time for it is a matter of luck: leaving it out makes announcements the same bytes in every
        # repetition of a run. An agent repeats only reports that are older still.
        recorded = tuple(number for number in member.recorded_reports if number < open_round.number - 2)
        personal = (member.last_accepted_round, recorded, offer, codec)
        message = self._announcements.get(personal)
        if message is None:
            message = self._announcements[personal] = RoundAnnouncement(
                run_id=self.rules.run_id,
                round_number=open_round.number,
                attempt=open_round.attempt,
                deadline_s=deadline_s,
                last_accepted_round=member.last_accepted_round,
                recorded_reports=recorded,
                chunk_bytes=self.rules.chunk_bytes,
                max_update_bytes=open_round.max_update_bytes,
                plan=self.rules.plan,
                model=offer,
                codec=str(codec) if codec else None,
                terms=self._terms(open_round, offer, codec) if offer.codec else None,
            )
        return message

    def _terms(self, open_round: OpenRound, offer: ModelOffer, codec: CodecSpec | None) -> str:
        """A name for what stays the same from round to round."""
        rules = self.rules
        same = (rules.run_id, rules.plan.model_dump_json(), rules.chunk_bytes, open_round.max_update_bytes)
        text = repr((*same, offer.codec, str(codec)))
        return prefix(hashlib.sha256(text.encode()).hexdigest())

    def standing(self, agent_id: str, member: Member, message: Standing) -> Publish:
        """Where the run stands, to one agent."""
        personal = message.model_copy(
            update={"last_accepted_round": member.last_accepted_round, "recorded_reports": member.recorded_reports}
        )
        address = Address(Kind.STANDING, agent_id)
        return Publish(address, wire.encode(personal, member.minor), expiry_s=STANDING_EXPIRY_S)

    def acceptance(self, agent_id: str, round_number: int, minor: int) -> Publish:
        """That an update counts."""
        written_for = (self.rules.run_id, round_number, minor)
        if self._accepted != written_for:
            receipt = Receipt(run_id=self.rules.run_id, round_number=round_number, outcome="accepted")
            self._accepted, self._acceptance = written_for, wire.encode(receipt, minor)
        return Publish(Address(Kind.RECEIPT, agent_id), self._acceptance, expiry_s=STANDING_EXPIRY_S)

    def receipt(self, agent_id: str, message: Receipt, minor: int) -> Publish:
        """Why an update, or something else, was refused."""
        address = Address(Kind.RECEIPT, agent_id)
        return Publish(address, wire.encode(message, minor), expiry_s=STANDING_EXPIRY_S)

    def wanted(self, agent_id: str, message: ChunksWanted, minor: int) -> Publish:
        """Ask an agent for chunks of its update."""
        address = Address(Kind.WANTED, agent_id)
        return Publish(address, wire.encode(message, minor), expiry_s=self._round_expiry_s)

    @property
    def _round_expiry_s(self) -> int:
        return max(1, int(self.rules.deadline_s))


def _call(message: RoundAnnouncement) -> RoundCall:
    shared = message.model_dump(include=set(RoundCall.model_fields) - {"v"})
    return RoundCall(**shared, sha256=message.model.sha256, base=message.model.base or "")
