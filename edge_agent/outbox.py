"""What the participant engine and its parts want done, gathered into one list of actions."""

from dataclasses import dataclass, field

from edge_agent.events import Action, Publish, Tell
from edge_agent.letters import Letters


@dataclass(slots=True)
class Outbox:
    """Writes what is said to the coordinator and to the log.

    Attributes:
        actions: what is to be done, in this order; the engine hands them out after each event.
    """

    letters: Letters
    actions: list[Action] = field(default_factory=list)
    _held: list[Publish] = field(default_factory=list)
    _last_refusal: str = ""

    def add(self, *actions: Action) -> None:
        """Have something done."""
        self.actions += actions

    def tell(self, text: str, *, warning: bool = False) -> None:
        """Write to the log."""
        self.add(Tell(text, warning))

    def tell_refusal(self, text: str) -> None:
        """Say it once: whatever was refused will be sent again and again."""
        if text != self._last_refusal:
            self._last_refusal = text
            self.tell(text, warning=True)

    def hold_back(self) -> None:
        """Put aside what would be published, until it is known that we are the newest process of this agent."""
        self._held += [action for action in self.actions if isinstance(action, Publish)]
        self.actions = [action for action in self.actions if not isinstance(action, Publish)]

    def release(self) -> None:
        """Publish what was held back."""
        self.actions += self._held
        self._held.clear()

    def drop_held(self) -> None:
        """The connection is gone: what was held back is said anew after the next one."""
        self._held.clear()
