"""Topics are built and parsed in one place, and nothing else is taken for one."""

import pytest

from schemas.errors import ConfigError
from schemas.topics import Address, Kind, Topics

TOPICS = Topics("homes/north")


@pytest.mark.parametrize("kind", list(Kind))
def test_address_comes_back_when_its_topic_is_parsed(kind: Kind) -> None:
    fields = {"agent_id": "room-1", "run_id": "run-1", "round_number": 3, "index": 12}
    address = Address(kind, **{name: value for name, value in fields.items() if f"{{{name}}}" in kind.value})  # type: ignore[arg-type]

    topic = TOPICS.build(address)

    assert topic.startswith("homes/north/v1/")
    assert TOPICS.parse(topic) == address


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "homes/north/v1",
        "homes/north/v1/",
        "homes/north/v2/agents/room-1/status",
        "homes/south/v1/agents/room-1/status",
        "homes/north/v1/agents/room-1/status/more",
        "homes/north/v1/agents/Room-1/status",
        "homes/north/v1/agents/-room/status",
        "homes/north/v1/agents//status",
        "homes/north/v1/agents/+/status",
        "homes/north/v1/agents/coordinator/status",
        "homes/north/v1/agents/monitor/reports/run-1/3",
        "homes/north/v1/agents/unknown/status",
        "homes/north/v1/agents/room-1\n/status",
        "homes/north/v1/agents/room-1/updates/run-1/03",
        "homes/north/v1/agents/room-1/updates/run-1/+3",
        "homes/north/v1/agents/room-1/updates/run-1/-3",
        "homes/north/v1/agents/room-1/updates/run-1/1000001",
        "homes/north/v1/agents/room-1/updates/run-1/99999999999",
        "homes/north/v1/agents/room-1/updates/run-1/\u0663",
        "homes/north/v1/agents/room-1/chunks/run-1/3/1000001",
        "homes/north/v1/models/run-1/" + "1" * 5000,
    ],
)
def test_topic_is_none_of_ours_when_it_differs_in_anything(topic: str) -> None:
    assert TOPICS.parse(topic) is None


@pytest.mark.parametrize("prefix", ["", "/", "a//b", "a/", "+", "fl/#", "$SYS", "a b", "a\0", "x" * 201])
def test_prefix_is_refused_when_it_cannot_be_part_of_a_topic(prefix: str) -> None:
    with pytest.raises(ConfigError, match="topic prefix"):
        Topics(prefix)


def test_filters_of_the_coordinator_match_what_agents_write_and_nothing_of_its_own() -> None:
    assert TOPICS.coordinator_filters() == [
        f"homes/north/v1/{rest}"
        for rest in (
            "agents/+/status",
            "agents/+/requests",
            "agents/+/updates/+/+",
            "agents/+/offers/+/+",
            "agents/+/chunks/+/+/+",
            "agents/+/reports/+/+",
            "coordinator/status",
        )
    ]
