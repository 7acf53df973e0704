"""Every MQTT topic of the protocol: built here, parsed here, written nowhere else.

One table maps each kind of message to its topic below `{prefix}/v1/`. `docs/topics.md` is held against it by a
test. Parsing never raises: an unknown topic is None, which the caller counts as a refusal.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from schemas.errors import ConfigError
from schemas.identifiers import MAX_ROUND_NUMBER, is_agent_id, is_identifier

MAX_CHUNK_INDEX = 1_000_000
MAX_TOPIC_CHARACTERS = 300
"""Below `{prefix}/v1/`; longer topics are not looked at."""

_ROOT: Final = "v1"


class Kind(StrEnum):
    """The kinds of message; each value is its topic below `{prefix}/v1/`."""

    STATUS = "agents/{agent_id}/status"
    REQUEST = "agents/{agent_id}/requests"
    UPDATE = "agents/{agent_id}/updates/{run_id}/{round_number}"
    OFFER = "agents/{agent_id}/offers/{run_id}/{round_number}"
    UPDATE_CHUNK = "agents/{agent_id}/chunks/{run_id}/{round_number}/{index}"
    REPORT = "agents/{agent_id}/reports/{run_id}/{round_number}"
    ANNOUNCEMENT = "agents/{agent_id}/inbox/announcement"
    CALL = "agents/{agent_id}/inbox/round"
    RECEIPT = "agents/{agent_id}/inbox/receipt"
    STANDING = "agents/{agent_id}/inbox/standing"
    WANTED = "agents/{agent_id}/inbox/wanted"
    AGENT_MODEL = "agents/{agent_id}/inbox/models/{run_id}/{round_number}"
    MODEL_CHUNK = "agents/{agent_id}/inbox/chunks/{run_id}/{round_number}/{index}"
    COORDINATOR_STATUS = "coordinator/status"
    MODEL = "models/{run_id}/{round_number}"


TO_COORDINATOR: Final = (Kind.STATUS, Kind.REQUEST, Kind.UPDATE, Kind.OFFER, Kind.UPDATE_CHUNK, Kind.REPORT)
"""What agents write and the coordinator reads."""

TO_AGENT: Final = (
    Kind.ANNOUNCEMENT,
    Kind.CALL,
    Kind.RECEIPT,
    Kind.STANDING,
    Kind.WANTED,
    Kind.AGENT_MODEL,
    Kind.MODEL_CHUNK,
)
"""What the coordinator writes to one agent alone."""


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed topic: the kind of message and the names that the topic carries (empty or 0 where it has none)."""

    kind: Kind
    agent_id: str = ""
    run_id: str = ""
    round_number: int = 0
    index: int = 0


_PATTERNS: Final = {kind: tuple(kind.value.split("/")) for kind in Kind}
_FIELDS: Final = {
    kind: [(at, part[1:-1]) for at, part in enumerate(parts) if part.startswith("{")]
    for kind, parts in _PATTERNS.items()
}
_LITERALS: Final = {
    num_levels: [
        (kind, [(at, part) for at, part in enumerate(parts) if not part.startswith("{")])
        for kind, parts in _PATTERNS.items()
        if len(parts) == num_levels
    ]
    for num_levels in {len(parts) for parts in _PATTERNS.values()}
}
"""By number of levels: the kinds, with what their topics have in which place."""

_LIMITS: Final = {"round_number": MAX_ROUND_NUMBER, "index": MAX_CHUNK_INDEX}


class Topics:
    """Builds and parses the topics of one federation, all below one prefix.

    Args:
        prefix: one or more topic levels, such as `fl` or `homes/north`; several federations on one broker
            differ in it. ConfigError when it is empty or holds a wildcard.
    """

    def __init__(self, prefix: str = "fl") -> None:
        levels = prefix.split("/")
        if not all(levels) or any(c in prefix for c in "+#$\0 ") or len(prefix) > 200:
            raise ConfigError(
                f"topic prefix {prefix!r} is not valid: expected levels such as 'fl' or 'homes/north', "
                "without '+', '#', '$', spaces or empty levels"
            )
        self.prefix = prefix
        self._root = f"{prefix}/{_ROOT}/"

    def build(self, address: Address) -> str:
        """The topic of an address."""
        return self._root + address.kind.value.format(
            agent_id=address.agent_id,
            run_id=address.run_id,
            round_number=address.round_number,
            index=address.index,
        )

    def parse(self, topic: str) -> Address | None:
        """The address of a topic, or None when it is not one of this federation's."""
        if not topic.startswith(self._root) or len(topic) > len(self._root) + MAX_TOPIC_CHARACTERS:
            return None
        return _parse(topic[len(self._root) :])

    def sender(self, topic: str) -> str:
        """The agent on whose topics this one is, whatever its rest; empty when it is nobody's."""
        levels = topic[len(self._root) :].split("/", 2)
        ours = topic.startswith(self._root) and len(levels) > 2 and levels[0] == "agents"
        return levels[1] if ours and is_identifier(levels[1]) else ""

    def coordinator_filters(self) -> list[str]:
        """The topic filters that the coordinator subscribes to."""
        return [*(self._filter(kind) for kind in TO_COORDINATOR), self._filter(Kind.COORDINATOR_STATUS)]

    def agent_filters(self, agent_id: str) -> list[str]:
        """The topic filters that an agent subscribes to, its own status among them."""
        own = f"{self._root}agents/{agent_id}"
        return [f"{own}/inbox/#", f"{own}/status", self._filter(Kind.MODEL), self._filter(Kind.COORDINATOR_STATUS)]

    def _filter(self, kind: Kind) -> str:
        return self._root + "/".join("+" if p.startswith("{") else p for p in _PATTERNS[kind])


@lru_cache(maxsize=1024)
def _parse(topic: str) -> Address | None:
    """The address of a topic below `{prefix}/v1/`. The same few topics come again and again."""
    levels = topic.split("/")
    kind = _kind_of(levels)
    if kind is None:
        return None
    values: dict[str, str | int] = {}
    for at, name in _FIELDS[kind]:
        value = _parse_level(name, levels[at])
        if value is None:
            return None
        values[name] = value
    return Address(kind, **values)  # type: ignore[arg-type]


def _kind_of(levels: list[str]) -> Kind | None:
    for kind, literals in _LITERALS.get(len(levels), ()):
        for at, part in literals:
            if levels[at] != part:
                break
        else:
            return kind
    return None


def _parse_level(name: str, level: str) -> str | int | None:
    if name not in _LIMITS:
        valid = is_agent_id(level) if name == "agent_id" else is_identifier(level)
        return level if valid else None
    # No leading zeros or signs: one number has one topic.
    if not (level.isascii() and level.isdigit()) or len(level) > 7 or (level != "0" and level[0] == "0"):
        return None
    number = int(level)
    return number if number <= _LIMITS[name] else None
