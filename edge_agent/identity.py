"""Two processes under one agent id: the newest one stays, the older one notices and gives way.

A broker ends the connection of a client when another one connects under its id; some say why (Mosquitto from 2.0.15
on), none says which of the two was started later. So the processes find out themselves, from the statuses on the
agent's own topic, which name the process (`instance`). Whoever has never yet heard its own introduction is the newest
and introduces itself. Whoever connects again after that looks first who was there last, and publishes nothing until it
knows. No sockets and no clock here.
"""

import math
from collections.abc import Collection
from enum import Enum, auto

from schemas.messages import AgentStatus

CHECK_S = 1.0
"""How long a process that connects again waits for the retained status of its own topic."""

SETTLE_S = 0.25
"""How long it waits for a later status when one names another process: what was queued for an earlier connection
comes first. Less than the shortest pause before the other one is back."""

VISITOR = "visit-"
"""Instances that begin like this only look around (`edge-agent doctor`): nobody gives way to them."""


class Verdict(Enum):
    """What a process is to do next."""

    GO_ON = auto()
    INTRODUCE_ITSELF = auto()
    GIVE_WAY = auto()


class Identity:
    """One process's view of who else uses its agent id.

    Args:
        instance: our own.
        ended: instances that are known to have ended. A connection that one of them opened may reach the broker after
            ours and throw us out, which makes it look like the newer one: nobody gives way to it.

    Attributes:
        due_s: when `decide` is to be called; `math.inf` when nothing is open.
    """

    def __init__(self, instance: str, ended: Collection[str] = ()) -> None:
        self.due_s = math.inf
        self._instance = instance
        self._predecessors = set(ended)
        # Whether the broker ever showed us our own introduction. Until then whoever is named on our topic was there
        # before: a predecessor that was killed, say, whose retained status nobody has replaced.
        self._introduced = False
        self._heard_itself = False
        self._rival = False

    @property
    def checking(self) -> bool:
        """True while nothing may be published."""
        return self.due_s < math.inf

    def connect(self, now_s: float) -> Verdict:
        """The connection is there, anew or for the first time."""
        self._heard_itself = self._rival = False
        if not self._introduced:
            return Verdict.INTRODUCE_ITSELF
        self.due_s = now_s + CHECK_S
        return Verdict.GO_ON

    def disconnect(self) -> None:
        """The connection is gone: whatever was open is looked at again after the next one."""
        self.due_s = math.inf

    def see(self, status: AgentStatus, now_s: float, *, retained: bool) -> Verdict:
        """A status arrived on our own topic."""
        if status.instance == self._instance:
            self._introduced = self._introduced or status.state == "online"
            self._heard_itself = self._heard_itself or not retained
            return self._close(Verdict.INTRODUCE_ITSELF) if self.checking and retained else Verdict.GO_ON
        if not self._introduced:
            # Retained or queued since before we were there. What we publish comes back behind all of that.
            self._predecessors.add(status.instance)
        if status.instance in self._predecessors or status.instance.startswith(VISITOR):
            return Verdict.GO_ON
        if self.checking:
            self._rival = True
            self.due_s = min(self.due_s, now_s + SETTLE_S)
            return Verdict.GO_ON
        newer = self._heard_itself and not retained and status.state == "online"
        return Verdict.GIVE_WAY if newer else Verdict.GO_ON

    def decide(self) -> Verdict:
        """The time for waiting is over."""
        return self._close(Verdict.GIVE_WAY if self._rival else Verdict.INTRODUCE_ITSELF)

    def _close(self, verdict: Verdict) -> Verdict:
        self.due_s = math.inf
        return verdict
