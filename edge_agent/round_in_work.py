"""The round that an agent is working on, with the moments from which its report is made."""

import math
from dataclasses import dataclass, field

from edge_agent.events import Measured, PendingUpdate
from schemas.chunks import Fetch
from schemas.measures import Traffic
from schemas.messages import AgentReport, RoundAnnouncement, RoundFailure
from schemas.weights import Weights


@dataclass(slots=True)
class RoundInWork:
    """One round from its announcement to its receipt; moments are monotonic seconds, NaN until they come.

    Attributes:
        fetch: the model on its way in chunks.
        deriving: the model is being made here.
        cut_off: we or the coordinator were away since the round was announced.
        model: that training started from; `residual`: what the last update that counted left behind.
        made: the update, while what it carries is not on the disk.
        idle_s: waited before the announcement.
    """

    announcement: RoundAnnouncement
    announced_at_s: float
    model_at_s: float = math.nan
    trained_at_s: float = math.nan
    sent_at_s: float = math.nan
    receipt_at_s: float = math.nan
    idle_s: float = 0.0
    fetch: Fetch | None = None
    deriving: bool = False
    cut_off: bool = False
    model: Weights = field(default_factory=dict)
    residual: Weights = field(default_factory=dict)
    made: PendingUpdate | None = None
    batches: int = 0
    examples: int = 0
    loss: float = 0.0
    reported: bool = False

    @property
    def run_id(self) -> str:
        """The run."""
        return self.announcement.run_id

    @property
    def number(self) -> int:
        """The round's number."""
        return self.announcement.round_number

    def is_of(self, run_id: str, round_number: int) -> bool:
        """True for this very round."""
        return (run_id, round_number) == (self.run_id, self.number)

    def same_as(self, other: RoundAnnouncement) -> bool:
        """True when another announcement asks for the very same work, so that it can go on."""
        return (
            self.is_of(other.run_id, other.round_number)
            and other.model.sha256 == self.announcement.model.sha256
            and other.plan == self.announcement.plan
            and other.last_accepted_round == self.announcement.last_accepted_round
        )

    def failure(self, detail: str) -> RoundFailure:
        """That this attempt at the round gets nothing from us, and why."""
        return RoundFailure(
            run_id=self.run_id, round_number=self.number, attempt=self.announcement.attempt, detail=detail[:500]
        )

    def report(self, traffic: Traffic, measured: Measured, cpu_s: float) -> AgentReport:
        """The agent's report; phases that were not gone through (an update sent again) count 0 seconds."""
        return AgentReport(
            download_s=_between(self.announced_at_s, self.model_at_s),
            train_s=_between(self.model_at_s, self.trained_at_s),
            upload_s=_between(self.sent_at_s, self.receipt_at_s),
            idle_s=self.idle_s,
            batches=self.batches,
            examples=self.examples,
            loss=self.loss if math.isfinite(self.loss) else 0.0,
            payload_bytes_up=traffic.payload_bytes_up,
            payload_bytes_down=traffic.payload_bytes_down,
            packet_bytes_up=traffic.packet_bytes_up,
            packet_bytes_down=traffic.packet_bytes_down,
            cpu_s=max(0.0, cpu_s),
            peak_rss_bytes=measured.peak_rss_bytes,
            cpu_temperature_c=_plausible_c(measured.cpu_temperature_c),
            throttled=measured.throttled,
        )


def _between(begin_s: float, end_s: float) -> float:
    return max(0.0, end_s - begin_s) if math.isfinite(begin_s) and math.isfinite(end_s) else 0.0


def _plausible_c(temperature_c: float | None) -> float | None:
    """What a processor can have; broken sensors report anything."""
    return temperature_c if temperature_c is not None and -100.0 <= temperature_c <= 300.0 else None
