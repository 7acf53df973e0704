"""Topic filters, as MQTT 5 matches them."""

import pytest

from simulation.broker import matches


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
    assert matches(topic_filter, topic)


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
    assert not matches(topic_filter, topic)
