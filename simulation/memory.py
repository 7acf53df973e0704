"""What a simulated party remembers across restarts, in memory: the same promises as the real folders, no disk."""

from edge_agent.events import Carry, HeldModel, PendingUpdate
from schemas.errors import StorageError


class MemorySpool:
    """An agent's pending update and carries; survives the agent's service when the same object is used again.

    Attributes:
        full: nothing more can be written; what is there can be read and removed.
    """

    def __init__(self) -> None:
        self.full = False
        self._run_id = ""
        self._updates: dict[int, PendingUpdate] = {}
        self._carries: dict[int, Carry] = {}
        self.model: HeldModel | None = None

    def keep_carry(self, run_id: str, round_number: int, carry: Carry) -> None:
        """Remember what was carried out of a round."""
        self._need_room()
        self._run_id = run_id
        self._carries[round_number] = carry

    def carry_of(self, run_id: str, round_number: int) -> Carry | None:
        """What is remembered of a round."""
        return self._carries.get(round_number) if run_id == self._run_id else None

    def keep(self, update: PendingUpdate) -> None:
        """Remember an update."""
        self._need_room()
        self._run_id = update.run_id
        self._updates[update.round_number] = update

    def keep_model(self, run_id: str, model: HeldModel) -> None:
        """Remember the model that is held."""
        self._need_room()
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

    def _need_room(self) -> None:
        if self.full:
            raise StorageError("the simulated disk is full")

    def load(self) -> tuple[str, PendingUpdate | None, dict[int, Carry]]:
        """The run, the pending update if there is one, and carries by round."""
        pending = self._updates[max(self._updates)] if self._updates else None
        carries = dict(self._carries)
        if pending is not None:
            carries.pop(pending.round_number, None)
        return self._run_id, pending, carries
