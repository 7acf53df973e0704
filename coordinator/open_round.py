"""A round that is open: who was selected, what has arrived, and when it may close."""

import math
from dataclasses import dataclass, field

from coordinator.events import RoundTimes
from coordinator.parcels import Parcels
from coordinator.pulls import Pulls
from coordinator.rules import RoundRules
from coordinator.strategy import Aggregator
from schemas.records import RoundRecord


@dataclass(slots=True)
class OpenRound:
    """One attempt at one round.

    Attributes:
        selected: whose updates are waited for; `welcome`: who was selected in earlier attempts and may still deliver.
        deadline_s: monotonic; moved when the broker was out of reach.
        started_at: UTC seconds of the announcement, the timestamp of the round's points.
        parcels: the model, in the ways in which it reaches agents.
        max_update_bytes: the largest update that is read.
        latencies_s: agent -> announcement to counted update.
        given_up: selected agents that are not waited for: their update was refused for what is in it, so that it will
            not come again, or they are shut out, or cannot deliver.
        excused: those whose process has said that it cannot deliver.
    """

    number: int
    attempt: int
    selected: frozenset[str]
    deadline_s: float
    started_at: float
    parcels: Parcels
    max_update_bytes: int
    aggregator: Aggregator
    times: RoundTimes
    pulls: Pulls
    welcome: frozenset[str] = frozenset()
    accepted: set[str] = field(default_factory=set)
    given_up: set[str] = field(default_factory=set)
    excused: set[str] = field(default_factory=set)
    latencies_s: dict[str, float] = field(default_factory=dict)
    loss_sum: float = 0.0
    loss_examples: int = 0

    def missing(self) -> list[str]:
        """Selected agents whose update has not been counted, sorted."""
        return sorted(self.selected - self.accepted)

    def wants(self, agent_id: str) -> bool:
        """True while this agent is to be invited."""
        return self.takes_part(agent_id) and agent_id not in self.accepted and agent_id not in self.given_up

    def takes_part(self, agent_id: str) -> bool:
        """True for those who were asked, in this attempt or in an earlier one."""
        return agent_id in self.selected or agent_id in self.welcome

    def give_up(self, agent_id: str) -> None:
        """Do not wait for this agent any more."""
        if agent_id in self.selected:
            self.given_up.add(agent_id)

    def excuse(self, agent_id: str) -> None:
        """Do not wait for this agent: it says that it cannot deliver."""
        self.give_up(agent_id)
        self.excused.add(agent_id)

    def ask_again(self, agent_id: str) -> None:
        """A new process of this agent is there, which may be able to do what the one before could not."""
        if agent_id in self.excused:
            self.excused.remove(agent_id)
            self.given_up.discard(agent_id)

    def accept(self, agent_id: str, num_examples: int, loss: float | None, now_s: float) -> None:
        """Note that an update was added to the aggregate."""
        self.accepted.add(agent_id)
        self.given_up.discard(agent_id)
        self.latencies_s[agent_id] = now_s - self.times.opened_s
        self.times.last_update_s = now_s
        if loss is not None:
            self.loss_sum += loss * num_examples
            self.loss_examples += num_examples

    def meets(self, rules: RoundRules) -> bool:
        """True when the round may close at its deadline."""
        return len(self.accepted) >= rules.min_updates and rules.required_agents <= self.accepted

    def may_close_early(self, rules: RoundRules) -> bool:
        """True when nothing more needs to be waited for."""
        enough = len(self.selected) - len(self.given_up)
        if rules.quorum is not None:
            enough = min(enough, rules.quorum)
        return len(self.accepted) >= enough and self.meets(rules)

    def record(self, run_id: str, model_sha256: str, refused: dict[str, dict[str, int]], ignored: int) -> RoundRecord:
        """The round's record, as far as it is known when the round closes."""
        traffic = self.times.traffic
        slowest = max(sorted(self.latencies_s), key=lambda agent_id: self.latencies_s[agent_id], default=None)
        return RoundRecord(
            run_id=run_id,
            round_number=self.number,
            attempt=self.attempt,
            started_at=self.started_at,
            selected=tuple(sorted(self.selected | self.accepted)),
            accepted=tuple(sorted(self.accepted)),
            refused=refused,
            ignored_fields=ignored,
            duration_s=0.0,
            broadcast_s=self.times.broadcast_s,
            wait_s=max(0.0, self.times.closed_s - self.times.opened_s - self.times.broadcast_s),
            aggregate_s=self.times.aggregate_s,
            checkpoint_s=0.0,
            evaluate_s=0.0,
            num_examples=self.aggregator.num_examples,
            train_loss=self._train_loss(),
            loss=None,
            accuracy=None,
            model_sha256=model_sha256,
            payload_bytes_up=traffic.payload_bytes_up,
            payload_bytes_down=traffic.payload_bytes_down,
            packet_bytes_up=traffic.packet_bytes_up,
            packet_bytes_down=traffic.packet_bytes_down,
            slowest_agent_id=slowest,
            slowest_latency_s=self.latencies_s.get(slowest) if slowest is not None else None,
        )

    def _train_loss(self) -> float | None:
        mean = self.loss_sum / self.loss_examples if self.loss_examples else None
        # Each loss is finite, but what agents write may be so large that the sum is not.
        return mean if mean is not None and math.isfinite(mean) else None
