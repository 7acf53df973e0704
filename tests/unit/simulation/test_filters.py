"""Topic filters, as MQTT 5 matches them."""

import pytest

from simulation.filters import FilterTree, selects


def is_found_in_a_tree(topic_filter: str, topic: str) -> bool:
    tree: FilterTree[str] = FilterTree()
    tree.add(topic_filter, "somebody")
    return tree.match(topic) == {"somebody"}


@pytest.mark.parametrize(
    ("topic_filter", "topic"),
    [
        ("a/b", "a/b"),
        ("a/+", "a/b"),
        ("+/b", "a/b"),
        ("+/+", "a/b"),
        ("a/#", "a/b"),
        ("a/#", "a/b/c"),
        ("a/#", "a"),
        ("#", "a/b/c"),
        ("a/+/c/#", "a/b/c/d/e"),
        ("$SYS/#", "$SYS/broker"),
        ("a/+", "a/"),
    ],
)
def test_filter_selects_topic(topic_filter: str, topic: str) -> None:
    assert selects(topic_filter, topic)
    assert is_found_in_a_tree(topic_filter, topic)


@pytest.mark.parametrize(
    ("topic_filter", "topic"),
    [
        ("a/b", "a/c"),
        ("a/b", "a/b/c"),
        ("a/b/c", "a/b"),
        ("a/+", "a"),
        ("a/+", "a/b/c"),
        ("+", "a/b"),
        ("#", "$SYS/broker"),
        ("+/broker", "$SYS/broker"),
        ("b/#", "a/b"),
    ],
)
def test_filter_leaves_topic_out(topic_filter: str, topic: str) -> None:
    assert not selects(topic_filter, topic)
    assert not is_found_in_a_tree(topic_filter, topic)


def test_everybody_with_a_matching_filter_is_found_once() -> None:
    tree: FilterTree[str] = FilterTree()
    for who, topic_filter in [("a", "x/+"), ("a", "x/y"), ("b", "#"), ("c", "x/z"), ("d", "x/y/#")]:
        tree.add(topic_filter, who)

    assert tree.match("x/y") == {"a", "b", "d"}


def test_removed_subscriber_is_not_found_and_others_stay() -> None:
    tree: FilterTree[str] = FilterTree()
    for who in ("a", "b"):
        tree.add("x/+", who)

    tree.remove("a", ["x/+"])

    assert tree.match("x/y") == {"b"}
