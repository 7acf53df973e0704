"""What a simulated party remembers across restarts, in memory: the same promises as the real folders, no disk."""

from edge_agent.events import Carry, HeldModel, PendingUpdate


class MemorySpool:
    """An agent's pending update and carries; survives the agent's service when the same object is used again."""

    def __init__(self) -> None:
        self._run_id = ""
        self._updates: dict[int, PendingUpdate] = {}
        self._carries: dict[int, Carry] = {}
        self.model: HeldModel | None = None

    def keep(self, update: PendingUpdate) -> None:
        """Remember an update and its carry."""
        self._run_id = update.run_id
        self._updates[update.round_number] = update
        if update.carry:
            self._carries[update.round_number] = update.carry

    def keep_model(self, run_id: str, model: HeldModel) -> None:
        """Remember the model that is held."""
        del run_id
        self.model = model

    def forget_update(self, run_id: str, round_number: int, *, accepted: bool) -> None:
        """The round is closed: the update goes, and unless it was accepted, its carry too."""
        if run_id == self._run_id:
            self._updates.pop(round_number, None)
            if not accepted:
                self._carries.pop(round_number, None)

    def forget_carries_before(self, run_id: str, round_number: int) -> None:
        """Remove carries of earlier rounds."""
        if run_id == self._run_id:
            self._carries = {n: carry for n, carry in self._carries.items() if n >= round_number}

    def forget_other_runs(self, run_id: str) -> None:
        """Remove everything of other runs."""
        if run_id != self._run_id:
            self._run_id, self._updates, self._carries = run_id, {}, {}

    def load(self) -> tuple[str, PendingUpdate | None, dict[int, Carry]]:
        """The run, the pending update if there is one, and carries by round."""
        pending = self._updates[max(self._updates)] if self._updates else None
        carries = dict(self._carries)
        if pending is not None:
            carries.pop(pending.round_number, None)
        return self._run_id, pending, carries
