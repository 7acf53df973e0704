"""Records to points: every number travels, under the record's own name and always with the same type."""

import itertools
import re
import types
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from schemas.messages import AgentReport
from schemas.metrics import FL_DEVICE, FL_EVENT, FL_REFUSAL, FL_ROUND, MEASUREMENTS, Measurement, PointStream, points
from schemas.records import RECORDS, DeviceRecord, RoundRecord, RunEvent
from tests.sample_records import STARTED_AT, device_record, round_record, run_event

DOCUMENT = Path(__file__).parents[3] / "docs" / "metrics.md"

NOT_FIELDS = {
    RoundRecord: {"type", "run_id", "started_at", "selected", "accepted", "refused"},
    DeviceRecord: {"type", "run_id", "agent_id", "started_at", "report"},
    AgentReport: {"v"},
}
"""Tags, the time, and what is counted instead of listed."""

INFLUX_TYPES = {int: "integer", float: "float", bool: "boolean", str: "string"}


def types_of(model: type[BaseModel]) -> dict[str, type]:
    """Field name to plain type, of a record's fields that become fields of a point."""
    return {
        name: _plain(field.annotation)
        for name, field in model.model_fields.items()
        if name not in NOT_FIELDS.get(model, set())
    }


def _plain(annotation: Any) -> type:
    if get_origin(annotation) in (Union, types.UnionType):
        return _plain(next(a for a in get_args(annotation) if a is not types.NoneType))
    inner = get_args(annotation)
    plain: type = _plain(inner[0]) if inner else annotation
    return plain


def spec_types(measurement: Measurement) -> dict[str, type]:
    return {field.name: field.type for field in measurement.fields}


def test_every_number_of_a_round_becomes_a_field_when_shipped() -> None:
    counted = {"num_selected": int, "num_accepted": int, "num_refused": int}

    assert spec_types(FL_ROUND) == types_of(RoundRecord) | counted


def test_every_number_of_a_device_becomes_a_field_when_shipped() -> None:
    assert spec_types(FL_DEVICE) == types_of(DeviceRecord) | types_of(AgentReport)


def test_round_becomes_a_point_at_its_start_when_recorded() -> None:
    point = points(round_record(3))[0]

    assert (point.measurement, point.tags) == ("fl_round", {"run_id": "run-1"})
    assert point.time_ns == 1_790_000_030_250_000_000
    assert point.fields["round_number"] == 3
    assert point.fields["accuracy"] == 0.875
    assert (point.fields["num_selected"], point.fields["num_accepted"], point.fields["num_refused"]) == (3, 2, 2)


def test_device_point_holds_the_report_when_recorded() -> None:
    [point] = points(device_record(2, "pi-4"))

    assert (point.measurement, point.tags) == ("fl_device", {"run_id": "run-1", "agent_id": "pi-4"})
    assert (point.fields["latency_s"], point.fields["train_s"], point.fields["throttled"]) == (3.75, 3.0, False)


def test_each_reason_becomes_a_point_when_messages_were_refused() -> None:
    refused = {"pi-3": {"stale-round": 1, "duplicate": 4}, "unknown": {"malformed": 2}}

    found = [p for p in points(round_record(1, refused=refused)) if p.measurement == "fl_refusal"]

    assert [(p.tags["agent_id"], p.tags["reason"], p.fields["count"]) for p in found] == [
        ("pi-3", "duplicate", 4),
        ("pi-3", "stale-round", 1),
        ("unknown", "malformed", 2),
    ]


def test_event_is_tagged_with_its_device_when_it_is_about_one() -> None:
    [about_run] = points(run_event("started"))
    [about_device] = points(run_event("agent-offline", 2, agent_id="pi-1", detail="will"))

    assert about_run.tags == {"run_id": "run-1", "name": "started"}
    assert about_device.tags == {"run_id": "run-1", "name": "agent-offline", "agent_id": "pi-1"}
    assert about_device.fields == {"round_number": 2, "detail": "will", "online": 0}
    assert "online" not in about_run.fields


def test_field_is_left_out_when_it_has_no_value() -> None:
    [device] = points(device_record(latency_s=None))
    assert "latency_s" not in device.fields
    assert "accuracy" not in points(round_record(accuracy=None))[0].fields


def test_field_keeps_its_type_when_json_wrote_a_whole_number() -> None:
    line = device_record().model_dump_json().replace('"train_s":3.0', '"train_s":3').encode()

    [point] = points(RECORDS.validate_json(line))

    assert {field.name: type(point.fields[field.name]) for field in FL_DEVICE.fields} == spec_types(FL_DEVICE)


def test_field_keeps_its_type_when_a_whole_number_was_measured() -> None:
    point = points(round_record(duration_s=3))[0]

    assert type(point.fields["duration_s"]) is float


def test_field_name_has_one_type_when_used_by_several_measurements() -> None:
    every = [(field.name, field.type) for measurement in MEASUREMENTS for field in measurement.fields]

    assert len(dict(every)) == len(set(every))


def test_points_of_records_differ_in_series_or_time_when_records_differ() -> None:
    records: list[RoundRecord | DeviceRecord | RunEvent] = [
        *(round_record(number) for number in (1, 2)),
        *(device_record(number, agent) for number, agent in itertools.product((1, 2), ("pi-1", "pi-2"))),
        *(run_event("agent-offline", 1, agent_id=agent) for agent in ("pi-1", "pi-2")),
        run_event("finished", 1),
    ]

    places = [(p.measurement, *sorted(p.tags.items()), p.time_ns) for r in records for p in points(r)]

    assert len(places) == len(set(places)) == len(records) + 2  # both rounds have a refusal


def test_repeated_round_takes_the_first_ones_place_when_recorded_again_after_a_crash() -> None:
    stream = PointStream()
    first = stream.feed(device_record(2)) + stream.feed(round_record(2))

    again = stream.feed(device_record(2, started_at=STARTED_AT + 99)) + stream.feed(
        round_record(2, started_at=STARTED_AT + 99, accuracy=0.9)
    )

    assert [(p.measurement, p.tags, p.time_ns) for p in again] == [(p.measurement, p.tags, p.time_ns) for p in first]
    assert again[1].fields["accuracy"] == 0.9


def test_refusals_become_zero_when_the_repeated_round_has_none() -> None:
    stream = PointStream()
    stream.feed(round_record(2, refused={"pi-3": {"duplicate": 2}, "pi-2": {"stale-round": 1}}))

    again = stream.feed(round_record(2, refused={"pi-2": {"stale-round": 5}}))

    counts = {(p.tags["agent_id"], p.tags["reason"]): p.fields["count"] for p in again if p.measurement == "fl_refusal"}
    assert counts == {("pi-3", "duplicate"): 0, ("pi-2", "stale-round"): 5}


def test_refusals_become_zero_when_several_rounds_are_repeated() -> None:
    stream = PointStream()
    for number in (1, 2, 3, 4):
        stream.feed(round_record(number))

    again = [point for number in (2, 3) for point in stream.feed(round_record(number, refused={}))]

    assert [point.fields["count"] for point in again if point.measurement == "fl_refusal"] == [0, 0]


def test_rounds_do_not_touch_each_other_when_they_follow() -> None:
    stream = PointStream()

    followed = [p for number in (1, 2, 3) for p in stream.feed(round_record(number))]

    assert followed == [p for number in (1, 2, 3) for p in points(round_record(number))]


def tables_of(measurement: Measurement) -> str:
    """What `docs/metrics.md` has to say of a measurement."""
    tags = [f"| `{name}` | tag | | {meaning} |" for name, meaning in measurement.tags.items()]
    fields = [f"| `{f.name}` | {INFLUX_TYPES[f.type]} | {f.unit} | {f.meaning} |" for f in measurement.fields]
    head = ["| name | type | unit | meaning |", "|---|---|---|---|"]
    return "\n".join([f"### `{measurement.name}`", "", f"{measurement.meaning}", "", *head, *tags, *fields, ""])


@pytest.mark.parametrize("measurement", [FL_ROUND, FL_DEVICE, FL_REFUSAL, FL_EVENT], ids=lambda m: m.name)
def test_document_holds_the_schema_when_code_changes(measurement: Measurement) -> None:
    document = DOCUMENT.read_text()
    expected = tables_of(measurement)

    assert expected in document, f"docs/metrics.md has to hold:\n{expected}"


def test_document_names_no_other_measurement_when_code_has_none() -> None:
    named = re.findall(r"^### `(fl_\w+)`$", DOCUMENT.read_text(), re.MULTILINE)

    assert named == [measurement.name for measurement in MEASUREMENTS]
