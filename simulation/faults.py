"""What the in-memory network does to its parties on purpose, drawn from a seed.

By default nothing. Crashes and restarts of parties are not among them, as somebody has to make the new party:
`VirtualNetwork.crash` and `VirtualNetwork.at` are there for that.
"""

import math
import random
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """How often what goes wrong. Probabilities are per message and hop (to the broker, to one subscriber).

    Attributes:
        cut: the connection breaks before the message is acknowledged: half of the time the message is lost
            (upwards) or redelivered after the reconnect (downwards), half of the time it had arrived already and
            is redelivered all the same.
        duplicate: a subscriber gets the message twice.
        drop: the broker drops the message for one subscriber, as with a full queue: nobody is told.
        delay_s: each message takes up to so much longer. Messages of one topic from one publisher stay in order,
            others overtake each other.
        partition_every_s: mean time between losses of contact with a random party; each lasts up to
            `partition_s`. What is sent in the meantime arrives later, unless the keep-alive ends the connection.
        restart_every_s: mean time between broker restarts; it is down for up to `restart_s`, and loses its
            retained messages with probability `forget` (sessions are always lost, as Mosquitto loses MQTT 5's).
        until_s: no faults after this moment, so that a run can end.
    """

    cut: float = 0.0
    duplicate: float = 0.0
    drop: float = 0.0
    delay_s: float = 0.0
    partition_every_s: float = math.inf
    partition_s: float = 120.0
    restart_every_s: float = math.inf
    restart_s: float = 10.0
    forget: float = 0.5
    until_s: float = math.inf


NO_FAULTS = Faults()


class Fate(Enum):
    """What becomes of a message on one hop."""

    ARRIVES = "arrives"
    LOST_BY_CUT = "the connection breaks before it arrives"
    ARRIVES_BEFORE_CUT = "it arrives, and the connection breaks before it is acknowledged"


class Adversary:
    """Draws the faults, each kind from its own stream, so that turning one on does not reshuffle the others."""

    def __init__(self, seed: int, faults: Faults) -> None:
        self.faults = faults
        streams = ("cut", "duplicate", "drop", "delay", "partition", "restart")
        # Reproducible, not secret.
        self._streams = {name: random.Random(f"{seed}/{name}") for name in streams}  # noqa: S311

    def fate(self, now_s: float) -> Fate:
        """What becomes of a message that is sent now."""
        if not self._strikes("cut", self.faults.cut, now_s):
            return Fate.ARRIVES
        return self._streams["cut"].choice((Fate.LOST_BY_CUT, Fate.ARRIVES_BEFORE_CUT))

    def duplicates(self, now_s: float) -> bool:
        """True when a message is to be delivered twice."""
        return self._strikes("duplicate", self.faults.duplicate, now_s)

    def drops(self, now_s: float) -> bool:
        """True when the broker is to drop a message."""
        return self._strikes("drop", self.faults.drop, now_s)

    def delay_s(self, now_s: float) -> float:
        """How much longer than usual a message takes."""
        if self.faults.delay_s == 0 or now_s >= self.faults.until_s:
            return 0.0
        return self._streams["delay"].uniform(0, self.faults.delay_s)

    def next_partition(self) -> tuple[float, float, float]:
        """In how many seconds a party loses contact, which one (as a fraction of their list), and for how long."""
        stream = self._streams["partition"]
        pause_s = stream.expovariate(1 / self.faults.partition_every_s)
        return pause_s, stream.random(), stream.uniform(0, self.faults.partition_s)

    def next_restart(self) -> tuple[float, float, bool]:
        """In how many seconds the broker goes down, for how long, and whether it keeps retained messages."""
        stream = self._streams["restart"]
        pause_s = stream.expovariate(1 / self.faults.restart_every_s)
        return pause_s, stream.uniform(0, self.faults.restart_s), stream.random() >= self.faults.forget

    def _strikes(self, stream: str, probability: float, now_s: float) -> bool:
        if probability == 0 or now_s >= self.faults.until_s:
            return False
        return self._streams[stream].random() < probability
