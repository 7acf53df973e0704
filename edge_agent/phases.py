"""What an agent can be doing; what moves it from one to another is in the engine and its parts."""

from enum import StrEnum


class Phase(StrEnum):
    """What the agent is doing."""

    IDLE = "idle"
    FETCHING = "fetching"  # the model
    TRAINING = "training"
    KEEPING = "keeping"  # until what it carries is on its disk, which may be full
    SENDING = "sending"  # until the receipt
    WAITING = "waiting"  # for the round to close
