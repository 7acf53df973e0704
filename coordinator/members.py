"""Who belongs to the federation, as the round engine knows it: presence, silence, and what each has delivered.

Everything here that must survive a crash of the coordinator is in `snapshot`.
"""

from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field
from typing import Any

REMEMBERED_REPORTS = 8
"""How many of an agent's latest reports are acknowledged by number."""


@dataclass(slots=True)
class Member:
    """One agent.

    Attributes:
        silent: it let a deadline pass and has not been heard of since; it is not selected meanwhile.
        minor: the schema minor that it announced; `codecs`: what it can encode and decode.
        holds: digest of the model that it holds, as far as is known; empty for none.
        terms: of the last complete announcement that it had since it was last greeted.
        quarantined: it is shut out; `offences`: refusals that speak against it, since it was last let in.
        questions: how many answers it has asked for since a round was last closed.
        last_accepted_round: the last closed round that its update was part of.
        reports: rounds whose report was appended to the record; `recorded_reports`: those known to be on disk.
    """

    online: bool = False
    silent: bool = False
    minor: int = 0
    instance: str = ""
    codecs: frozenset[str] = frozenset()
    holds: str = ""
    terms: str = ""
    quarantined: bool = False
    offences: int = 0
    questions: int = 0
    last_accepted_round: int = 0
    reports: list[int] = field(default_factory=list)
    recorded_reports: tuple[int, ...] = ()

    @property
    def eligible(self) -> bool:
        """True when the agent can be selected for a round."""
        return self.online and not self.silent and not self.quarantined

    def add_report(self, round_number: int) -> bool:
        """Note a report; False when it is a repetition."""
        if round_number in self.reports:
            return False
        self.reports = [*self.reports, round_number][-REMEMBERED_REPORTS:]
        return True


class Members:
    """All agents that have ever been online in this run.

    Args:
        allowed: the only agent ids that may take part, or None for any that the broker lets in.

    Attributes:
        num_online: how many are there, silent or not; `num_eligible`: how many can be selected now.
        num_quarantined: how many are shut out.
    """

    def __init__(self, allowed: frozenset[str] | None = None) -> None:
        self._allowed = allowed
        self._members: dict[str, Member] = {}
        # Kept as members change, so that no message costs a walk through all of them.
        self._minors: Counter[int] = Counter()
        self.num_online = 0
        self.num_eligible = 0
        self.num_quarantined = 0

    def get(self, agent_id: str) -> Member | None:
        """The member of this id, or None."""
        return self._members.get(agent_id)

    def admit(self, agent_id: str) -> Member | None:
        """The member of this id, made new if need be; None when it may not take part."""
        if self._allowed is not None and agent_id not in self._allowed:
            return None
        return self._members.setdefault(agent_id, Member())

    def ids(self) -> list[str]:
        """All ids, sorted."""
        return sorted(self._members)

    def eligible(self) -> list[str]:
        """Ids of the agents that can be selected now, sorted."""
        return sorted(agent_id for agent_id, member in self._members.items() if member.eligible)

    def online(self) -> list[str]:
        """Ids of the agents that are there, silent or not, sorted."""
        return sorted(agent_id for agent_id, member in self._members.items() if member.online)

    def lowest_minor(self, otherwise: int) -> int:
        """The lowest schema minor among the agents that are there; `otherwise` when none is."""
        return min((minor for minor, count in self._minors.items() if count), default=otherwise)

    def minor_of(self, agent_id: str) -> int:
        """The schema minor that this agent reads; that of the first version when it is not known."""
        member = self._members.get(agent_id)
        return member.minor if member is not None else 0

    def arrive(self, member: Member, minor: int) -> None:
        """It is there, and reads this schema minor."""
        self._count(member, -1)
        member.online, member.silent, member.minor = True, False, minor
        self._count(member, 1)

    def leave(self, member: Member) -> None:
        """It is gone."""
        self._count(member, -1)
        member.online = False

    def hear(self, member: Member) -> None:
        """It sent something: it is not silent."""
        self._set_silent(member, False)

    def hush(self, member: Member) -> None:
        """It let a round pass: it is not selected until it is heard from."""
        self._set_silent(member, True)

    def shut_out(self, member: Member) -> None:
        """It is not selected until it is let in again."""
        self._set_quarantined(member, True)

    def let_in(self, member: Member) -> None:
        """It may take part again, as if nothing had been."""
        self._set_quarantined(member, False)
        member.offences = member.questions = 0

    def forget_questions(self) -> None:
        """A round was closed: everybody may ask anew."""
        for member in self._members.values():
            member.questions = 0

    def _set_quarantined(self, member: Member, quarantined: bool) -> None:
        self._count(member, -1)
        self.num_quarantined += quarantined - member.quarantined
        member.quarantined = quarantined
        self._count(member, 1)

    def _set_silent(self, member: Member, silent: bool) -> None:
        self._count(member, -1)
        member.silent = silent
        self._count(member, 1)

    def _count(self, member: Member, count: int) -> None:
        if member.online:
            self._minors[member.minor] += count
            self.num_online += count
            self.num_eligible += count if member.eligible else 0

    def reports_are_durable(self) -> None:
        """All reports appended so far are on disk."""
        for member in self._members.values():
            member.recorded_reports = tuple(member.reports)

    def forgive(self) -> None:
        """Nobody counts as silent any more."""
        for member in self._members.values():
            self._set_silent(member, False)

    def snapshot(self, round_number: int, counted: Set[str]) -> dict[str, Any]:
        """What a resumed coordinator must know: for each agent, [last accepted round, reports].

        Args:
            round_number, counted: the round that is being saved, and those whose updates it holds: they are not told
                before the snapshot is on disk.
        """
        return {
            agent_id: [round_number if agent_id in counted else member.last_accepted_round, member.reports]
            for agent_id, member in self._members.items()
        }

    def restore(self, snapshot: dict[str, Any], *, reports_kept: bool) -> None:
        """Take over what `snapshot` gave; who is there must be learned anew.

        Args:
            reports_kept: the reports in the snapshot are on disk. Otherwise a power cut may have taken them: none is
                acknowledged, and agents send again those that they have not been told of.
        """
        for agent_id, (last_accepted_round, appended) in snapshot.items():
            member = self._members.setdefault(agent_id, Member())
            member.last_accepted_round = last_accepted_round
            reports = appended if reports_kept else []
            member.reports = list(reports)
            member.recorded_reports = tuple(reports)
