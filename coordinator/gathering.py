"""Are there enough agents for the next round? Knows how many it takes, who is missing, and what to say of it."""

import math

from coordinator.run_state import RunState

GATHER_S = 10.0
"""How long a resumed run waits for as many agents as it began with, before fewer will do."""


class Gathering:
    """The agents that a round waits for."""

    def __init__(self, state: RunState) -> None:
        self._state = state
        self._gather_until_s = -math.inf

    def begin(self) -> None:
        """The federation is ours: a resumed run gives its agents time to come back."""
        if self._state.resumed:
            self._gather_until_s = self._state.now_s + GATHER_S

    @property
    def wake_at_s(self) -> float:
        """When fewer agents will do; infinite when that makes no difference."""
        return self._gather_until_s if self._state.now_s < self._gather_until_s else math.inf

    def is_complete(self) -> bool:
        """True when a round may open."""
        if self.is_enough():
            return True
        if self._state.attempt > 1:
            # Nobody can take the place of those who sent nothing: they are asked once more.
            self._state.members.forgive()
            return self.is_enough()
        return False

    def shortage(self) -> str:
        """What is missing, in words."""
        state, absent = self._state, self._absent()
        missing = f"; missing: {', '.join(absent)}" if absent else ""
        there = ", ".join(state.members.eligible()) or "none"
        return (
            f"{state.members.num_eligible} of {self._least} needed agents were there within "
            f"{state.rules.patience_s:g} s{missing} (there: {there})"
        )

    def is_enough(self) -> bool:
        """True when as many agents are there as a round needs, and all required ones."""
        return self._state.members.num_eligible >= self._least and not self._absent()

    @property
    def _least(self) -> int:
        state, rules = self._state, self._state.rules
        begun = state.attempt > 1 or (state.round_number > 0 and state.now_s >= self._gather_until_s)
        return rules.min_updates if begun else max(rules.min_agents, rules.min_updates)

    def _absent(self) -> list[str]:
        """Required agents that cannot be selected now, sorted."""
        members = ((agent_id, self._state.members.get(agent_id)) for agent_id in self._state.rules.required_agents)
        return sorted(agent_id for agent_id, member in members if member is None or not member.eligible)
