"""The rules of a run, as the round engine needs them: no file, no address, no secret.

`config.py` makes them from what a person wrote.
"""

from dataclasses import dataclass, field

from schemas.codecs import PLAIN, CodecPair, CodecSpec
from schemas.messages import TrainingPlan

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRules:
    """When rounds open, close, repeat and end.

    Attributes:
        rounds: how many to run; `target_accuracy` ends the run at the round that reaches it.
        min_agents: agents that must be there before the first round opens.
        required_agents: agents without whose update no round counts.
        fraction: of the agents that are there, how many are selected (McMahan et al. 2017, C in Algorithm 1).
        min_updates: a round closes at its deadline with at least this many, otherwise it is repeated.
        quorum: a round closes early at this many updates; None waits for every selected agent.
        deadline_s: from the announcement; time in which the broker was out of reach does not count.
        max_attempts: a round that was not met so many times aborts the run.
        patience_s: how long to wait for enough agents before the run is aborted.
        report_grace_s: at the end, how long to wait for the last reports.
        max_update_norm: the largest L2 distance of an update from the model that it started from.
        quarantine_after: so many refusals that speak against an agent shut it out; 0 shuts nobody out.
        max_model_bytes: the largest blob that is read.
        chunk_bytes: larger blobs travel in chunks of this size.
        codecs: of updates and models.
        evaluate: False leaves accuracy out (for benchmarks).
    """

    run_id: str
    plan: TrainingPlan
    rounds: int
    target_accuracy: float | None = None
    min_agents: int = 1
    required_agents: frozenset[str] = field(default_factory=frozenset)
    fraction: float = 1.0
    min_updates: int = 1
    quorum: int | None = None
    deadline_s: float = 600.0
    max_attempts: int = 3
    patience_s: float = 600.0
    report_grace_s: float = 3.0
    max_update_norm: float = 1000.0
    quarantine_after: int = 20
    max_model_bytes: int = 1024 * MIB
    chunk_bytes: int = 8 * MIB
    codecs: CodecPair = PLAIN
    evaluate: bool = True

    def update_codec(self, known: frozenset[str]) -> CodecSpec | None:
        """What an agent is asked to encode its update with, given what it can; None for whole fp32 updates."""
        codec = self.codecs.up
        return codec if codec.needs and codec.needs <= known else None
