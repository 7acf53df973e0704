"""The configuration of a run: a TOML file, checked key by key, and the rules that the round engine needs from it."""

import difflib
import math
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from coordinator.influx import InfluxSettings
from coordinator.robust import fewest_updates
from coordinator.rules import MIB, RoundRules
from coordinator.strategies import AGGREGATIONS, MEAN, Aggregation
from coordinator.web.settings import WebSection
from learning.strategies.presets import Recipe, expand, names
from schemas.codecs import CodecPair, parse_codecs
from schemas.codecs.spec import MAX_TEXT
from schemas.errors import ConfigError, PayloadError
from schemas.identifiers import AgentId, RunId
from schemas.messages import TrainingPlan
from schemas.weights import Weights
from transport.settings import BrokerSection, FileSettings, Section


class TrainingSection(Section):
    """`[training]`: what every agent trains in every round.

    Attributes:
        model: `cnn`, `lstm`, `mlp`, or `module:callable` from `model_path` (which agents must allow as well).
        local_batches: E; batch_size: B.
        learning_rate: the step size of local training; the strategy's own when not given.
        strategy: how agents train and how updates become the next model (docs/strategies.md).
        codec: how updates and models are encoded on the wire (docs/codecs.md): one codec for both, or UP/DOWN; the
            preset's own when not given, fp32 for plain strategies.
        options: the strategy's numbers, such as `server_momentum`; its defaults where not given.
        seed: everything random derives from it.
    """

    model: str = Field("cnn", min_length=1, max_length=200)
    model_path: Path | None = None
    local_batches: int = Field(10, ge=1, le=1_000_000)
    batch_size: int = Field(16, ge=1, le=1_000_000)
    learning_rate: float | None = Field(None, gt=0, le=1e6)
    strategy: str = "fedavg"
    options: dict[str, float] = Field(default_factory=dict, max_length=32)
    codec: str | None = Field(None, max_length=2 * MAX_TEXT + 1)
    seed: int = Field(1, ge=0, lt=2**63)

    @field_validator("strategy")
    @classmethod
    def _strategy_is_known(cls, name: str) -> str:
        return _one_of(names(), name, "strategy")

    @field_validator("codec")
    @classmethod
    def _codec_is_known(cls, text: str | None) -> str | None:
        try:
            return text if text is None else str(parse_codecs(text))
        except PayloadError as error:
            raise ValueError(error.detail) from error

    @model_validator(mode="after")
    def _options_fit_the_strategy(self) -> "TrainingSection":
        try:
            self.recipe  # noqa: B018 - made to be checked
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def recipe(self) -> Recipe:
        """What the strategy's name stands for, with the numbers given here."""
        return expand(self.strategy, self.local_batches, self.learning_rate, self.options)

    @property
    def codecs(self) -> CodecPair:
        """How updates and models are encoded."""
        return parse_codecs(self.codec or self.recipe.codec)


class AggregationSection(Section):
    """`[aggregation]`: how a round's updates are put together (docs/strategies.md, "Robust aggregation").

    Attributes:
        rule: `mean`, FedAvg's, or one that wrong or malicious agents cannot ruin.
        attackers: how many of a round's updates may be wrong; for `trimmed-mean`, `krum` and `multi-krum`.
        max_norm: of `norm-clipping`; the median of the round's norms when not given.
        max_memory_mib: for the updates that all rules but `mean` keep until a round closes.
    """

    rule: str = MEAN
    attackers: int = Field(1, ge=0, le=100_000)
    max_norm: float | None = Field(None, gt=0)
    max_memory_mib: int = Field(1024, ge=1, le=1_048_576)

    @field_validator("rule")
    @classmethod
    def _rule_is_known(cls, name: str) -> str:
        return _one_of(AGGREGATIONS, name, "aggregation")


class RoundsSection(Section):
    """`[rounds]`: when rounds open, close, repeat and end. See `RoundRules` for each key."""

    count: int = Field(25, ge=1, le=1_000_000)
    target_accuracy: float | None = Field(None, gt=0, le=1)
    min_agents: int = Field(1, ge=1)
    required_agents: tuple[AgentId, ...] = ()
    allowed_agents: tuple[AgentId, ...] | None = None
    fraction: float = Field(1.0, gt=0, le=1)
    min_updates: int = Field(1, ge=1)
    quorum: int | None = Field(None, ge=1)
    deadline_s: float = Field(600.0, gt=0, le=30 * 86400)
    max_attempts: int = Field(3, ge=1, le=1000)
    patience_s: float = Field(600.0, gt=0)
    report_grace_s: float = Field(3.0, ge=0)
    max_update_norm: float = Field(1000.0, gt=0)
    quarantine_after: int = Field(20, ge=0, le=1_000_000)
    max_model_mib: int = Field(1024, ge=1, le=65536)
    chunk_kib: int = Field(8192, ge=16, le=262144)

    @model_validator(mode="after")
    def _quorum_is_possible(self) -> "RoundsSection":
        if self.quorum is not None and self.quorum < self.min_updates:
            raise ValueError(f"quorum {self.quorum} is lower than min_updates {self.min_updates}: no round could close")
        outside = set(self.required_agents) - set(self.allowed_agents or self.required_agents)
        if outside:
            raise ValueError(f"required_agents {sorted(outside)} are not in allowed_agents: no round could close")
        return self


class DataSection(Section):
    """`[data]`: the held-out test set that the coordinator judges models on.

    Attributes:
        dataset: `mnist`, `digits`, either with `-rgb32` for the mlp, `sequences`, or `none` to run without accuracy.
        folder: where MNIST lies; looked for in the usual places when not given.
        partition: how the devices' data was divided (`iid`, `digit-pairs`), for the report to say; checks nothing.
    """

    dataset: Literal["mnist", "mnist-rgb32", "digits", "digits-rgb32", "sequences", "none"] = "mnist"
    folder: Path | None = None
    partition: str | None = Field(None, max_length=80)


class RunConfig(FileSettings):
    """Everything about one run.

    Attributes:
        run_id: made from the date when not given.
        runs_folder: every run has a folder of its own in here.
        threads: CPU threads for evaluation, at most the cores that it may use, whatever stands here.
        influx: where metrics are shipped to, from the run's folder; None keeps them there.
        web: where `--web` shows the run; on this machine alone when None.
    """

    model_config = SettingsConfigDict(env_prefix="COORDINATOR_")

    run_id: RunId | None = None
    runs_folder: Path = Path("runs")
    threads: int = Field(1, ge=1, le=64)
    broker: BrokerSection = BrokerSection()
    training: TrainingSection = TrainingSection()
    aggregation: AggregationSection = AggregationSection()
    rounds: RoundsSection = RoundsSection()
    data: DataSection = DataSection()
    influx: InfluxSettings | None = None
    web: WebSection | None = None

    @model_validator(mode="after")
    def _rounds_are_large_enough_for_the_rule(self) -> "RunConfig":
        section = self.aggregation
        fewest = fewest_updates(section.rule, section.attackers)
        if self.rounds.min_updates < fewest:
            raise ValueError(
                f"aggregation {section.rule!r} withstands {section.attackers} attackers in rounds of at least {fewest} "
                f"updates, but rounds.min_updates is {self.rounds.min_updates}"
            )
        return self

    def put_together(self, model: Weights) -> Aggregation:
        """How updates of this model are put together.

        Raises:
            ConfigError: the memory for them is too small for the smallest round that the configuration allows.
        """
        section, rounds = self.aggregation, self.rounds
        aggregation = Aggregation(
            rule=section.rule,
            attackers=section.attackers,
            max_norm=section.max_norm,
            max_memory_bytes=section.max_memory_mib * MIB,
        )
        known = max(rounds.min_agents, len(rounds.allowed_agents or ()))
        agents = max(rounds.min_updates, len(rounds.required_agents), math.ceil(rounds.fraction * known))
        most = aggregation.max_updates(model)
        if most is not None and most < agents:
            size = sum(array.nbytes for array in model.values())
            raise ConfigError(
                f"aggregation {section.rule!r} keeps all updates of a round: {agents} agents of {size:,} bytes each "
                f"are {math.ceil(agents * size / MIB):,} MiB, but aggregation.max_memory_mib is "
                f"{section.max_memory_mib:,}"
            )
        return aggregation

    @property
    def plan(self) -> TrainingPlan:
        """What agents are told to train."""
        section, recipe = self.training, self.training.recipe
        return TrainingPlan(
            model=section.model,
            local_batches=section.local_batches,
            batch_size=section.batch_size,
            learning_rate=recipe.learning_rate,
            seed=section.seed,
            strategy=recipe.strategy,
            options=dict(recipe.options),
        )

    def rules(self, run_id: str) -> RoundRules:
        """The rules of the run."""
        section = self.rounds
        return RoundRules(
            run_id=run_id,
            plan=self.plan,
            rounds=section.count,
            target_accuracy=section.target_accuracy,
            min_agents=section.min_agents,
            required_agents=frozenset(section.required_agents),
            fraction=section.fraction,
            min_updates=section.min_updates,
            quorum=section.quorum,
            deadline_s=section.deadline_s,
            max_attempts=section.max_attempts,
            patience_s=section.patience_s,
            report_grace_s=section.report_grace_s,
            max_update_norm=section.max_update_norm,
            quarantine_after=section.quarantine_after,
            max_model_bytes=section.max_model_mib * MIB,
            chunk_bytes=section.chunk_kib * 1024,
            codecs=self.training.codecs,
            evaluate=self.data.dataset != "none",
        )


def _one_of(known: Collection[str], name: str, what: str) -> str:
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"there is no {what} {name!r}: expected one of {', '.join(sorted(known))}{hint}")
