"""What the coordinator says to agents, as `Publish` actions: one method per message, no decisions."""

from dataclasses import dataclass, field

from coordinator.events import Publish
from coordinator.members import Member
from coordinator.open_round import OpenRound
from coordinator.rules import RoundRules
from schemas import chunks, wire
from schemas.identifiers import COORDINATOR_ID
from schemas.messages import (
    BlobHeader,
    ChunksWanted,
    CoordinatorStatus,
    Receipt,
    RoundAnnouncement,
    Standing,
)
from schemas.topics import Address, Kind
from schemas.versions import CURRENT
from schemas.weights import Weights, encode

STANDING_EXPIRY_S = 600


@dataclass(slots=True)
class Letters:
    """Writes the messages of one run, in the schema minor that all its agents understand.

    Most agents are told the same, word for word, so what was written for one is kept for the next.
    """

    rules: RoundRules
    minor: int = CURRENT.minor
    _written_for: object = None
    _announcements: dict[tuple[int, tuple[int, ...]], bytes] = field(default_factory=dict)

    def status(self, message: CoordinatorStatus) -> Publish:
        """The coordinator's status, retained unless it is a claim or answers one.

        Written in minor 0, as it also goes to agents that have not announced theirs yet.
        """
        retain = not (message.claim or message.answers)
        return Publish(Address(Kind.COORDINATOR_STATUS), wire.encode(message, 0), retain=retain)

    def model_blob(self, round_number: int, weights: Weights, sha256: str, num_examples: int) -> bytes:
        """The blob that carries the model of a round, the same for every agent."""
        header = BlobHeader(
            kind="model",
            run_id=self.rules.run_id,
            round_number=round_number,
            sender=COORDINATOR_ID,
            base_sha256=sha256,
            num_examples=num_examples,
            num_batches=0,
        )
        return encode(weights, wire.encode(header, self.minor))

    def model(self, open_round: OpenRound, agent_id: str | None = None) -> Publish:
        """The model to one agent, or to all at once."""
        kind = Kind.AGENT_MODEL if agent_id else Kind.MODEL
        address = Address(kind, agent_id or "", self.rules.run_id, open_round.number)
        return Publish(address, open_round.blob, expiry_s=self._round_expiry_s)

    def model_chunks(self, open_round: OpenRound, agent_id: str, first: int, count: int) -> list[Publish]:
        """Some chunks of the model to one agent; those beyond the last one are left out."""
        sha256 = open_round.offer.blob_sha256
        if sha256 is None:
            return []
        end = min(first + count, chunks.num_chunks(len(open_round.blob), self.rules.chunk_bytes))
        return [
            Publish(
                Address(Kind.MODEL_CHUNK, agent_id, self.rules.run_id, open_round.number, index),
                chunks.cut(open_round.blob, sha256, self.rules.chunk_bytes, index, self.minor),
                expiry_s=self._round_expiry_s,
            )
            for index in range(first, end)
        ]

    def announcement(self, open_round: OpenRound, agent_id: str, member: Member, remaining_s: float) -> Publish:
        """The invitation to a round, to one agent."""
        address = Address(Kind.ANNOUNCEMENT, agent_id)
        payload = self._announcement(open_round, member, round(max(remaining_s, 0.0), 3))
        return Publish(address, payload, expiry_s=max(1, int(remaining_s)))

    def _announcement(self, open_round: OpenRound, member: Member, deadline_s: float) -> bytes:
        attempt = (open_round.number, open_round.attempt, deadline_s, self.minor, self.rules)
        if self._written_for != attempt:
            self._written_for, self._announcements = attempt, {}
        personal = (member.last_accepted_round, member.recorded_reports)
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
                model=open_round.offer,
            )
            payload = self._announcements[personal] = wire.encode(message, self.minor)
        return payload

    def standing(self, agent_id: str, member: Member, message: Standing) -> Publish:
        """Where the run stands, to one agent."""
        personal = message.model_copy(
            update={"last_accepted_round": member.last_accepted_round, "recorded_reports": member.recorded_reports}
        )
        address = Address(Kind.STANDING, agent_id)
        return Publish(address, wire.encode(personal, self.minor), expiry_s=STANDING_EXPIRY_S)

    def receipt(self, agent_id: str, message: Receipt) -> Publish:
        """What became of an update."""
        address = Address(Kind.RECEIPT, agent_id)
        return Publish(address, wire.encode(message, self.minor), expiry_s=STANDING_EXPIRY_S)

    def wanted(self, agent_id: str, message: ChunksWanted) -> Publish:
        """Ask an agent for chunks of its update."""
        address = Address(Kind.WANTED, agent_id)
        return Publish(address, wire.encode(message, self.minor), expiry_s=self._round_expiry_s)

    @property
    def _round_expiry_s(self) -> int:
        return max(1, int(self.rules.deadline_s))
