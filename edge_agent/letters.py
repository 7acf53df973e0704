"""What an agent says to the coordinator, as `Publish` actions: one method per message, no decisions."""

import hashlib
import math
from dataclasses import dataclass

from edge_agent.events import HeldModel, PendingUpdate, Publish, TrainingFinished
from schemas import wire
from schemas.chunks import cut, num_chunks
from schemas.codecs import CAPABILITIES
from schemas.messages import (
    AgentReport,
    AgentRequest,
    AgentStatus,
    BlobHeader,
    BriefReport,
    DifferenceHeader,
    RoundAnnouncement,
    RoundFailure,
    RoundRef,
    UpdateOffer,
)
from schemas.topics import Address, Kind
from schemas.versions import CURRENT
from schemas.weights import Weights, encode, prefix

REQUEST_EXPIRY_S = 60
UPDATE_EXPIRY_S = 3600

BRIEF_MINOR = 2
"""From this schema minor on, coordinators read brief reports."""


@dataclass(slots=True)
class Letters:
    """Writes one agent's messages in the schema minor of the latest announcement, or in its own where it is the lower.

    Status and requests are always in our own: the coordinator takes their minor for what we can read.
    """

    agent_id: str
    instance: str
    minor: int = CURRENT.minor

    def status(self, held: HeldModel | None = None) -> Publish:
        """That the agent is there, retained; with the digest of the model that it holds."""
        holds = held.sha256 if held is not None else None
        message = AgentStatus(state="online", instance=self.instance, codecs=CAPABILITIES, holds=holds)
        return Publish(Address(Kind.STATUS, self.agent_id), wire.encode(message), retain=True)

    def goodbye(self) -> Publish:
        """That the agent is gone, retained."""
        message = AgentStatus(state="offline", instance=self.instance)
        return Publish(Address(Kind.STATUS, self.agent_id), wire.encode(message), retain=True)

    def ask_state(self, held: HeldModel | None = None, failure: RoundFailure | None = None) -> Publish:
        """Ask what is going on; says the same as the status, which may have been lost, and what cannot be delivered."""
        holds = held.sha256 if held is not None else None
        return self._request(AgentRequest(want="state", codecs=CAPABILITIES, holds=holds, failed=failure))

    def ask_model(self, run_id: str, round_number: int) -> Publish:
        """Ask for the model as it was announced."""
        ref = RoundRef(run_id=run_id, round_number=round_number)
        return self._request(AgentRequest(want="model", round=ref, codecs=CAPABILITIES))

    def ask_whole_model(self, run_id: str, round_number: int) -> Publish:
        """Ask for the whole model instead of a difference."""
        ref = RoundRef(run_id=run_id, round_number=round_number)
        return self._request(AgentRequest(want="whole", round=ref, codecs=CAPABILITIES))

    def ask_chunks(self, run_id: str, round_number: int, first: int, count: int) -> Publish:
        """Ask for some chunks of the model."""
        ref = RoundRef(run_id=run_id, round_number=round_number)
        return self._request(AgentRequest(want="chunks", round=ref, first=first, count=count))

    def update_blob(
        self, announcement: RoundAnnouncement, result: TrainingFinished, packed: Weights | None = None
    ) -> bytes:
        """The blob of an update: the same result always gives the same bytes.

        Args:
            packed: the update in the announced codec; None sends the weights themselves.
        """
        # JSON has no NaN; the coordinator looks at the weights themselves.
        loss = result.loss if math.isfinite(result.loss) else None
        if packed is not None and announcement.codec is not None:
            brief = DifferenceHeader(
                codec=announcement.codec,
                base=prefix(announcement.model.sha256),
                num_examples=result.num_examples,
                num_batches=result.num_batches,
                loss=loss,
            )
            return encode(packed, wire.encode(brief, self.minor))
        header = BlobHeader(
            kind="update",
            run_id=result.run_id,
            round_number=result.round_number,
            sender=self.agent_id,
            base_sha256=announcement.model.sha256,
            num_examples=result.num_examples,
            num_batches=result.num_batches,
            loss=loss,
        )
        return encode(result.weights, wire.encode(header, self.minor))

    def update(self, pending: PendingUpdate) -> Publish:
        """The whole update."""
        address = Address(Kind.UPDATE, self.agent_id, pending.run_id, pending.round_number)
        return Publish(address, pending.blob, expiry_s=UPDATE_EXPIRY_S)

    def offer(self, pending: PendingUpdate) -> Publish:
        """The offer of an update that must be fetched in chunks."""
        message = UpdateOffer(size_bytes=len(pending.blob), sha256=hashlib.sha256(pending.blob).hexdigest())
        address = Address(Kind.OFFER, self.agent_id, pending.run_id, pending.round_number)
        return Publish(address, wire.encode(message, self.minor), expiry_s=UPDATE_EXPIRY_S)

    def chunks(self, pending: PendingUpdate, chunk_bytes: int, first: int, count: int) -> list[Publish]:
        """Some chunks of the update; those beyond the last one are left out."""
        sha256 = hashlib.sha256(pending.blob).hexdigest()
        end = min(first + count, num_chunks(len(pending.blob), chunk_bytes))
        return [
            Publish(
                Address(Kind.UPDATE_CHUNK, self.agent_id, pending.run_id, pending.round_number, index),
                cut(pending.blob, sha256, chunk_bytes, index, self.minor),
                expiry_s=UPDATE_EXPIRY_S,
            )
            for index in range(first, end)
        ]

    def report(self, run_id: str, round_number: int, report: AgentReport) -> Publish:
        """The measurements of a round."""
        message = BriefReport.of(report) if self.minor >= BRIEF_MINOR else report
        return Publish(Address(Kind.REPORT, self.agent_id, run_id, round_number), wire.encode(message, self.minor))

    def _request(self, message: AgentRequest) -> Publish:
        address = Address(Kind.REQUEST, self.agent_id)
        return Publish(address, wire.encode(message), expiry_s=REQUEST_EXPIRY_S)
