"""The two documents that browsers get: their numbers, their pages, and what is not in them."""

import json
from typing import Any

import pytest

from coordinator.summary import Record
from coordinator.web.engineer import SORTS, Question, engineer
from coordinator.web.overview import overview, thinned
from coordinator.web.pages import Wanted, page_of
from tests.unit.coordinator.recorded import START, closed, happened, reported, run_of
from tests.unit.coordinator.web.watched import begun, sight

NOW = START + 600
THREE = {"a": 2.0, "b": 9.0, "c": 2.5}


def home(records: list[Record], wanted: Wanted = Wanted(), **options: Any) -> dict[str, Any]:  # noqa: B008 - frozen
    return overview(sight(records, **options), wanted, NOW)


def workshop(records: list[Record], **question: Any) -> dict[str, Any]:
    return engineer(sight(records), Question(**question), NOW)


def test_overview_has_the_accuracy_of_each_round_as_recorded() -> None:
    model = home([closed(1, accuracy=0.25), closed(2, accuracy=None), closed(3, accuracy=0.75)])["model"]

    assert model["curve"] == {"rounds": [1, 3], "accuracy": [0.25, 0.75]}
    assert (model["accuracy"], model["best_accuracy"], model["target_accuracy"]) == (0.75, 0.75, 0.9)


def test_overview_without_a_run_says_so() -> None:
    found = overview(None, Wanted(), NOW)

    assert found["run"] is None
    assert found["headline"]["text"] == "No training has been started yet."


def test_rooms_in_trouble_come_first() -> None:
    rooms = home([*begun("room-1", "room-2", "room-3"), happened("agent-offline", START + 1, "room-3")])["rooms"]

    assert [(room["name"], room["state"]) for room in rooms["items"]] == [
        ("Room 3", "missing"),
        ("Room 1", "there"),
        ("Room 2", "there"),
    ]
    assert (rooms["all"], rooms["there"]) == (3, 2)


def test_rooms_are_found_by_their_name_and_come_page_by_page() -> None:
    records = begun(*(f"room-{i}" for i in range(1, 101)))

    found = home(records, Wanted(query="room 10"))["rooms"]
    second = home(records, Wanted(page=2, size=40))["rooms"]

    assert [room["agent_id"] for room in found["items"]] == ["room-10", "room-100"]
    assert (second["page"], second["pages"], second["total"]) == (2, 3, 100)
    assert second["items"][0]["agent_id"] == "room-41"


def test_nobody_is_called_missing_while_the_broker_is_away() -> None:
    records = [*begun("a", "b"), happened("agent-offline", START, "b"), happened("broker-lost", START + 1)]
    found = home(records)

    assert found["notices"] == []
    assert [room["state"] for room in found["rooms"]["items"]] == ["unknown", "returning"]


def test_rooms_of_an_ended_run_have_taken_part_or_not() -> None:
    records = [*begun("a", "b"), closed(1, ["a"]), happened("finished", START + 9)]
    found = home(records, running=False)

    assert [room["state"] for room in found["rooms"]["items"]] == ["took-part", "idle"]
    assert found["run"]["state"] == "finished"


def test_thinning_keeps_the_last_and_never_more_than_asked() -> None:
    assert thinned([], 3) == []
    assert thinned([1, 2, 3], 3) == [1, 2, 3]
    assert thinned(list(range(1, 11)), 4) == [1, 4, 7, 10]
    assert len(thinned(list(range(1000)), 300)) <= 300


@pytest.mark.parametrize(("wanted", "page", "items"), [(1, 1, [0, 1]), (3, 3, [4]), (9, 3, [4]), (0, 1, [0, 1])])
def test_page_that_is_not_there_becomes_the_nearest_one(wanted: int, page: int, items: list[int]) -> None:
    found = page_of(range(5), Wanted(wanted, size=2))

    assert (found.page, list(found.items), found.pages) == (page, items, 3)


def test_engineers_rounds_are_the_records_newest_first() -> None:
    records = run_of(20, THREE)
    rounds = workshop(records)["rounds"]

    assert [r["number"] for r in rounds["items"]][:3] == [20, 19, 18]
    newest = rounds["items"][0]
    record = closed(20, THREE)
    for name in ("accuracy", "loss", "train_loss", "duration_s", "wait_s", "packet_bytes_up", "packet_bytes_down"):
        assert newest[name] == getattr(record, name)
    assert [r["number"] for r in workshop(records, rounds_page=2)["rounds"]["items"]] == [5, 4, 3, 2, 1]


def test_timeline_follows_the_round_under_way_once_there_is_a_report_of_it() -> None:
    records = [*run_of(2, THREE)[:-1], happened("round-opened", START + 30, round_number=3)]
    before, after = workshop(records), workshop([*records, reported(3, "b")])

    assert (before["timeline"]["round"], before["timeline"]["open"]) == (2, False)
    assert (after["timeline"]["round"], after["timeline"]["open"]) == (3, True)
    assert [item["agent_id"] for item in after["timeline"]["items"]] == ["b"]


def test_timeline_of_a_closed_round_has_its_phases_and_each_devices_parts() -> None:
    timeline = workshop(run_of(3, THREE), timeline_round=2)["timeline"]

    assert timeline["coordinator"] == {
        "broadcast_s": 0.1,
        "wait_s": 2.0,
        "aggregate_s": 0.2,
        "checkpoint_s": 0.3,
        "evaluate_s": 1.0,
    }
    assert [item["latency_s"] for item in timeline["items"]] == [2.0, 9.0, 2.5]
    assert [item["train_s"] for item in timeline["items"]] == [1.0, 1.0, 1.0]


def test_devices_can_be_sorted_and_found() -> None:
    records = [*begun("a", "b", "c"), *run_of(2, THREE)[1:-1], happened("agent-offline", START + 30, "c")]
    records.append(closed(3, THREE, accepted=("a", "b"), refused={"a": {"malformed": 3}}))

    first = {sort: workshop(records, sort=sort)["devices"]["items"][0]["agent_id"] for sort in SORTS}

    assert first == {"device": "a", "state": "c", "latency": "b", "bytes": "a", "refused": "a", "rounds": "c"}
    assert [d["agent_id"] for d in workshop(records, devices=Wanted(query="B"))["devices"]["items"]] == ["b"]


def test_refusals_are_listed_by_reason_with_those_who_sent_most() -> None:
    many = {f"room-{i}": {"malformed": i} for i in range(1, 9)}
    (refusal,) = workshop([closed(1, many, refused=many)])["refusals"]

    assert (refusal["reason"], refusal["count"], refusal["all_senders"]) == ("malformed", 36, 8)
    assert refusal["senders"][0] == {"agent_id": "room-8", "count": 8}
    assert len(refusal["senders"]) == 5


def test_documents_hold_neither_a_devices_data_nor_the_places_of_secrets() -> None:
    records = [*begun("a"), reported(1, "a", examples=31_415, loss=27.18), closed(1, ["a"], num_examples=31_415)]
    records.append(happened("round-opened", START, round_number=2))

    for document in (home(records), workshop(records), workshop(records, timeline_round=1)):
        text = json.dumps(document)
        for hidden in ("31415", "27.18", 'examples":', "/etc/secret", "broker.example", "sha256"):
            assert hidden not in text
