"""Topic filters with the wildcards `+` and `#` (MQTT 5, section 4.7) in a tree, one level of it per topic level.

Finding who subscribed to a topic costs as much as the topic has levels, however many sessions there are.
"""

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


@dataclass(slots=True)
class _Node(Generic[T]):
    """What stands below one level: further levels, and who is interested when the filter ends here."""

    below: dict[str, "_Node[T]"] = field(default_factory=dict)
    ends: dict[T, None] = field(default_factory=dict)


class FilterTree(Generic[T]):
    """Topic filters, each with those who subscribed with it."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def add(self, topic_filter: str, subscriber: T) -> None:
        """Note a subscription; once more changes nothing."""
        node = self._root
        for level in topic_filter.split("/"):
            node = node.below.setdefault(level, _Node())
        node.ends[subscriber] = None

    def remove(self, subscriber: T, topic_filters: Iterable[str]) -> None:
        """Forget a subscriber's subscriptions; what stands in the tree for nobody is left, as it does no harm."""
        for topic_filter in topic_filters:
            node = self._root
            for level in topic_filter.split("/"):
                node = node.below[level]
            node.ends.pop(subscriber, None)

    def match(self, topic: str) -> set[T]:
        """Everybody with a filter that selects the topic."""
        levels = topic.split("/")
        # A topic such as $SYS/... is not selected by a filter that begins with a wildcard.
        wild = not topic.startswith("$")
        return {subscriber for node in _selecting(self._root, levels, wild=wild) for subscriber in node.ends}


def _selecting(node: _Node[T], levels: list[str], *, wild: bool = True) -> Iterator[_Node[T]]:
    if wild and (rest := node.below.get("#")) is not None:
        yield rest
    if not levels:
        yield node
        return
    for level in (levels[0], "+") if wild else (levels[0],):
        if (below := node.below.get(level)) is not None:
            yield from _selecting(below, levels[1:])
