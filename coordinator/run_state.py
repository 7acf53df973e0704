"""What the round engine and its parts know of a run, and what of it survives a crash. No decisions here."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from coordinator.broadcast import Broadcast, split
from coordinator.members import Members
from coordinator.open_round import OpenRound
from coordinator.phases import MOVES, Phase
from coordinator.rules import RoundRules
from schemas.measures import Instant
from schemas.records import RoundRecord
from schemas.weights import Array, Weights

START = Instant(0.0, 0.0)

REMEMBERED_ROUNDS = 64
"""Reports of rounds longer ago than this are refused."""


@dataclass(slots=True)
class RunState:
    """One run, as it stands.

    Attributes:
        until_s: monotonic end of what the phase waits for, infinite when it waits for no moment.
        round_number: the last closed round; `durable_round`: the last one whose checkpoint is on disk, which is all
            that agents are told of.
        weights: the global model of the last closed round, `sha256` its digest, `examples` the sum of its n_k.
        broadcast: the model that agents are to start the next round from.
        strategy_state: what the strategy carries to the next round.
        attempt: of the next round; `asked`: who was selected in its earlier attempts.
        closed: the record of the last closed round, as far as it is known.
        counted: whose updates the last closed round holds; `left_behind`: who must be told that it went on without.
        awaiting: what is missing of the last closed round: `checkpoint`, `evaluation` and, last of all, its `record`.
        unreported: at the end, whose last report may still come.
        started_at: UTC seconds of the rounds whose reports are still taken.
        latencies_s: announcement to counted update, by round and agent.
    """

    rules: RoundRules
    session: str
    members: Members
    weights: Weights
    sha256: str
    broadcast: Broadcast
    strategy_state: Mapping[str, Array] = field(default_factory=dict)
    phase: Phase = Phase.OFFLINE
    now: Instant = START
    connected: bool = False
    lost_at_s: float = 0.0
    until_s: float = math.inf
    resumed: bool = False
    round_number: int = 0
    durable_round: int = 0
    examples: int = 0
    open: OpenRound | None = None
    attempt: int = 1
    asked: frozenset[str] = frozenset()
    closed: RoundRecord | None = None
    counted: frozenset[str] = frozenset()
    left_behind: list[str] = field(default_factory=list)
    awaiting: set[str] = field(default_factory=set)
    unreported: set[str] = field(default_factory=set)
    started_at: dict[int, float] = field(default_factory=dict)
    latencies_s: dict[tuple[int, str], float] = field(default_factory=dict)

    @property
    def now_s(self) -> float:
        """Monotonic seconds."""
        return self.now.monotonic_s

    @property
    def is_ours(self) -> bool:
        """The federation is this coordinator's: it has claimed it, and no other one has answered."""
        return self.phase not in (Phase.OFFLINE, Phase.CLAIMING)

    @property
    def number(self) -> int:
        """The open round, or else the last closed one: what a note is about."""
        return self.open.number if self.open else self.round_number

    def move(self, phase: Phase) -> None:
        """Change the phase as the transition table allows."""
        if phase not in MOVES[self.phase]:
            raise AssertionError(f"no move from {self.phase} to {phase}")
        self.phase = phase

    def is_next(self, round_number: int) -> bool:
        """True for the round that is to be opened (again): what comes too early is sent again once it is open.

        After a crash, the broker hands over what agents sent for the round that was open, before we reopen it.
        """
        return self.open is None and round_number == self.round_number + 1

    def was_counted(self, agent_id: str, round_number: int) -> bool:
        """True for an update that is part of a closed round, as far as that is still known."""
        if self.phase is Phase.SAVING and round_number == self.round_number:
            return agent_id in self.counted
        member = self.members.get(agent_id)
        return member is not None and 0 < round_number == member.last_accepted_round

    def latency_s(self, round_number: int, agent_id: str) -> float | None:
        """Announcement to counted update; None when it was not counted, or is not remembered."""
        if self.open is not None and self.open.number == round_number:
            return self.open.latencies_s.get(agent_id)
        return self.latencies_s.get((round_number, agent_id))

    def remember(self, open_round: OpenRound) -> None:
        """Keep what late reports of this round need, and forget what is too old."""
        self.members.forget_questions()
        oldest = open_round.number - REMEMBERED_ROUNDS
        self.started_at = {n: at for n, at in self.started_at.items() if n > oldest}
        self.latencies_s = {key: s for key, s in self.latencies_s.items() if key[0] >= open_round.number - 1}
        self.latencies_s |= {(open_round.number, agent): s for agent, s in open_round.latencies_s.items()}

    def snapshot(self) -> dict[str, Any]:
        """What a resumed engine needs besides weights and strategy state; plain JSON."""
        recent = sorted(self.started_at)[-REMEMBERED_ROUNDS:]
        return {
            "run_id": self.rules.run_id,
            "round_number": self.round_number,
            "model_sha256": self.sha256,
            "num_examples": self.examples,
            "members": self.members.snapshot(self.round_number, self.counted),
            "started_at": {str(number): self.started_at[number] for number in recent},
            "closed": self.closed.model_dump(mode="json") if self.closed else None,
            "broadcast_base_sha256": self.broadcast.base_sha256,
        }

    def arrays(self) -> dict[str, Array]:
        """The arrays that a resumed engine needs besides the weights."""
        return dict(self.strategy_state) | self.broadcast.arrays()

    def restore(self, snapshot: Mapping[str, Any], state: Mapping[str, Array], recorded: RoundRecord | None) -> None:
        """Take over a checkpoint; see `RoundEngine.restore`."""
        self.resumed = True
        self.strategy_state, ours = split(state)
        self.broadcast = Broadcast.restore(self.weights, ours, snapshot.get("broadcast_base_sha256", ""))
        self.round_number = self.durable_round = snapshot["round_number"]
        self.examples = snapshot["num_examples"]
        # The round's record is synced after the checkpoint is written, and all reports before it with it.
        self.members.restore(snapshot["members"], reports_kept=recorded is not None)
        self.started_at = {int(number): at for number, at in snapshot["started_at"].items()}
        if recorded is not None:
            self.closed = recorded
        elif snapshot["closed"] is not None:
            self.closed = RoundRecord.model_validate_json(json.dumps(snapshot["closed"]))
            self.awaiting = {"evaluation"} if self.rules.evaluate else set()
            self.awaiting.add("record")
