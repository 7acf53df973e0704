"""Names, lists and numbers as a person says them."""

import pytest

from coordinator.web import words


@pytest.mark.parametrize(
    ("agent_id", "name", "device"),
    [
        ("room-3", "Room 3", "Room 3's device"),
        ("kitchen", "Kitchen", "Kitchen's device"),
        ("pi-4", "Pi 4", "Pi 4"),
        ("agent-01", "Agent 01", "Agent 01"),
        ("pink-room", "Pink room", "Pink room's device"),
        ("7", "7", "7's device"),
    ],
)
def test_device_is_called_by_its_room_or_by_its_own_name(agent_id: str, name: str, device: str) -> None:
    assert (words.room(agent_id), words.device(agent_id)) == (name, device)


def test_rooms_are_ordered_as_people_count() -> None:
    names = ["room-10", "room-2", "annex", "room-2b", "2", "10"]

    assert sorted(names, key=words.natural_key) == ["2", "10", "annex", "room-2", "room-2b", "room-10"]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, "Room 1"),
        (2, "Room 1 and Room 2"),
        (3, "Room 1, Room 2 and Room 3"),
        (4, "Room 1, Room 2, Room 3 and Room 4"),
        (12, "Room 1, Room 2, Room 3 and 9 more"),
    ],
)
def test_list_of_rooms_ends_early_when_it_is_long(number: int, text: str) -> None:
    assert words.rooms([f"room-{i}" for i in range(number, 0, -1)]) == text


def test_accuracy_is_counted_in_hundreds() -> None:
    assert [words.of_hundred(share) for share in (0.0, 0.29, 0.8095, 1.0)] == [
        "0 of 100",
        "29 of 100",
        "81 of 100",
        "100 of 100",
    ]


def test_durations_and_counts_have_the_digits_that_one_says() -> None:
    assert [words.seconds(s) for s in (1.234, 42.4, 300.0)] == ["1.2 seconds", "42 seconds", "5 minutes"]
    assert [words.count(n, "room") for n in (0, 1, 1000)] == ["0 rooms", "1 room", "1,000 rooms"]
    assert words.count(2, "room takes", "rooms take") == "2 rooms take"
