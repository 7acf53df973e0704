"""Topic filters with the wildcards `+` and `#` (MQTT 5, section 4.7) in a tree, one level of it per topic level.

Finding who subscribed to a topic costs as much as the topic has levels, however many sessions there are, and next to
nothing when the topic was looked for just before.
"""

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

_REMEMBERED_TOPICS = 1000
_FEW_TOPICS = 100


@dataclass(slots=True)
class _Node(Generic[T]):
    """What stands below one level: further levels, and who is interested when the filter ends here."""

    below: dict[str, "_Node[T]"] = field(default_factory=dict)
    ends: dict[T, None] = field(default_factory=dict)


class FilterTree(Generic[T]):
    """Topic filters, each with those who subscribed with it."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._matched: dict[str, frozenset[T]] = {}

    def add(self, topic_filter: str, subscriber: T) -> None:
        """Note a subscription; once more changes nothing."""
        self._forget_what(topic_filter)
        node = self._root
        for level in topic_filter.split("/"):
            node = node.below.setdefault(level, _Node())
        node.ends[subscriber] = None

    def remove(self, subscriber: T, topic_filters: Iterable[str]) -> None:
        """Forget a subscriber's subscriptions; what stands in the tree for nobody is left, as it does no harm."""
        for topic_filter in topic_filters:
            self._forget_what(topic_filter)
            node = self._root
            for level in topic_filter.split("/"):
                node = node.below[level]
            node.ends.pop(subscriber, None)

    def match(self, topic: str) -> frozenset[T]:
        """Everybody with a filter that selects the topic."""
        matched = self._matched.get(topic)
        if matched is None:
            if len(self._matched) >= _REMEMBERED_TOPICS:
                self._matched.clear()
            matched = self._matched[topic] = self._find(topic)
        return matched

    def _forget_what(self, topic_filter: str) -> None:
        """Look again for the topics that a filter selects; with many remembered, for all is quicker."""
        if len(self._matched) > _FEW_TOPICS:
            self._matched.clear()
        for topic in [topic for topic in self._matched if selects(topic_filter, topic)]:
            del self._matched[topic]

    def _find(self, topic: str) -> frozenset[T]:
        nodes = _selecting(self._root, topic.split("/"), wild=_may_be_wild(topic))
        return frozenset(subscriber for node in nodes for subscriber in node.ends)


@lru_cache(maxsize=4096)
def selects(topic_filter: str, topic: str) -> bool:
    """True when this one filter selects the topic."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if wanted[0] in ("+", "#") and not _may_be_wild(topic):
        return False
    if wanted[-1] == "#":
        wanted.pop()
        levels = levels[: len(wanted)]
    return len(wanted) == len(levels) and all(map(_selects_level, wanted, levels))


def _selects_level(wanted: str, level: str) -> bool:
    return wanted in ("+", level)


def _may_be_wild(topic: str) -> bool:
    """A topic such as $SYS/... is not selected by a filter that begins with a wildcard."""
    return not topic.startswith("$")


def _selecting(node: _Node[T], levels: list[str], *, wild: bool = True) -> Iterator[_Node[T]]:
    if wild and (rest := node.below.get("#")) is not None:
        yield rest
    if not levels:
        yield node
        return
    for level in (levels[0], "+") if wild else (levels[0],):
        if (below := node.below.get(level)) is not None:
            yield from _selecting(below, levels[1:])
