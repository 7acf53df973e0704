"""Where a run can be, and the moves between: the round engine's transition table. Every cell is tested."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Phase(StrEnum):
    """Where a run is."""

    OFFLINE = "offline"  # not yet connected for the first time
    CLAIMING = "claiming"  # is there another coordinator?
    WAITING = "waiting"  # for enough agents
    COLLECTING = "collecting"  # a round is open
    CLOSING = "closing"  # the aggregate is made
    SAVING = "saving"  # checkpoint and evaluation are under way
    ENDING = "ending"  # the last reports may still come
    OVER = "over"


MOVES: Final[Mapping[Phase, frozenset[Phase]]] = {
    Phase.OFFLINE: frozenset({Phase.CLAIMING, Phase.OVER}),
    Phase.CLAIMING: frozenset({Phase.WAITING, Phase.SAVING, Phase.ENDING, Phase.OVER}),
    Phase.WAITING: frozenset({Phase.COLLECTING, Phase.OVER}),
    Phase.COLLECTING: frozenset({Phase.CLOSING, Phase.WAITING, Phase.OVER}),
    Phase.CLOSING: frozenset({Phase.SAVING, Phase.OVER}),
    Phase.SAVING: frozenset({Phase.WAITING, Phase.ENDING, Phase.OVER}),
    Phase.ENDING: frozenset({Phase.OVER}),
    Phase.OVER: frozenset(),
}
"""The transition table; any other move is a defect."""
