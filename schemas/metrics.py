"""A run's records as InfluxDB points: measurements, tags, fields and their units.

`MEASUREMENTS` is the whole schema, and `docs/metrics.md` is held against it by a test. Fields are named as in
`records.py` and `messages.py`; each has one type for ever, as InfluxDB refuses a field that changes its type.
Sending the points is `coordinator/shipping.py`'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from schemas.records import DeviceRecord, RoundRecord, RunEvent

_ONLINE_AFTER = {"agent-online": 1, "agent-offline": 0}
"""Events that say whether a device is there; a number, as dashboards cannot draw a boolean."""

REPEATABLE_ROUNDS = 8
"""So far back a crash can throw a run: one round, and more only when checkpoints are damaged."""

FieldValue = int | float | bool | str


@dataclass(frozen=True, slots=True)
class Point:
    """One point. Points with the same measurement, tags and time replace each other, field by field.

    Attributes:
        time_ns: nanoseconds since 1970, UTC.
    """

    measurement: str
    tags: Mapping[str, str]
    fields: Mapping[str, FieldValue]
    time_ns: int


class FieldSpec(NamedTuple):
    """One field: InfluxDB's name of its type, its unit (empty for none), and what it says."""

    name: str
    type: type[FieldValue]
    unit: str
    meaning: str


class Measurement(NamedTuple):
    """One measurement. A field without a value is left out of the point."""

    name: str
    meaning: str
    tags: Mapping[str, str]
    fields: tuple[FieldSpec, ...]


_RUN = {"run_id": "the run"}
_AGENT = {**_RUN, "agent_id": "the device"}
_ROUND_NUMBER = FieldSpec("round_number", int, "", "the round, from 1 on")

FL_ROUND = Measurement(
    "fl_round",
    "one closed round, as the coordinator saw it; the time is its start",
    _RUN,
    (
        _ROUND_NUMBER,
        FieldSpec("attempt", int, "", "1, or more when the round had to be repeated"),
        FieldSpec("num_selected", int, "devices", "asked to take part"),
        FieldSpec("num_accepted", int, "devices", "whose update is in the new model"),
        FieldSpec("num_refused", int, "messages", "refused since the round before, for any reason"),
        FieldSpec("ignored_fields", int, "fields", "unknown fields of newer minor versions, dropped"),
        FieldSpec("duration_s", float, "s", "announcement until the next round could open"),
        FieldSpec(
            "broadcast_s", float, "s", "handing announcements, and the model if it was not sent ahead, to the transport"
        ),
        FieldSpec("wait_s", float, "s", "from there until the round closed"),
        FieldSpec("aggregate_s", float, "s", "making the new model"),
        FieldSpec("checkpoint_s", float, "s", "writing the checkpoint"),
        FieldSpec("evaluate_s", float, "s", "trying the new model on the test set"),
        FieldSpec("num_examples", int, "examples", "sum over the accepted updates"),
        FieldSpec("train_loss", float, "", "mean of the devices' training losses, weighted by their examples"),
        FieldSpec("loss", float, "", "of the new model on the held-out test set"),
        FieldSpec("accuracy", float, "0 to 1", "of the new model on the held-out test set"),
        FieldSpec("model_sha256", str, "", "digest of the new model's weights"),
        FieldSpec("payload_bytes_up", int, "bytes", "application payload that the coordinator sent"),
        FieldSpec("payload_bytes_down", int, "bytes", "application payload that the coordinator received"),
        FieldSpec("packet_bytes_up", int, "bytes", "whole MQTT packets that the coordinator sent"),
        FieldSpec("packet_bytes_down", int, "bytes", "whole MQTT packets that the coordinator received"),
        FieldSpec("slowest_agent_id", str, "", "the device whose update was counted last"),
        FieldSpec("slowest_latency_s", float, "s", "announcement to that update"),
        FieldSpec("target_accuracy", float, "0 to 1", "at which the run ends, where it has a target"),
        FieldSpec("rounds_planned", int, "rounds", "after which the run ends at the latest"),
    ),
)

FL_DEVICE = Measurement(
    "fl_device",
    "one device's report of one round; the time is the round's start, on the coordinator's clock",
    _AGENT,
    (
        _ROUND_NUMBER,
        FieldSpec("latency_s", float, "s", "announcement to counted update, on the coordinator's clock"),
        FieldSpec("download_s", float, "s", "announcement seen until the model was complete"),
        FieldSpec("train_s", float, "s", "local training"),
        FieldSpec("upload_s", float, "s", "update handed over until its receipt"),
        FieldSpec("idle_s", float, "s", "waiting since the round before"),
        FieldSpec("batches", int, "batches", "trained in this round"),
        FieldSpec("examples", int, "examples", "that the device holds"),
        FieldSpec("loss", float, "", "mean training loss over the round's batches"),
        FieldSpec("payload_bytes_up", int, "bytes", "application payload sent since the report before"),
        FieldSpec("payload_bytes_down", int, "bytes", "application payload received since the report before"),
        FieldSpec("packet_bytes_up", int, "bytes", "whole MQTT packets sent since the report before"),
        FieldSpec("packet_bytes_down", int, "bytes", "whole MQTT packets received since the report before"),
        FieldSpec("cpu_s", float, "s", "CPU time of the agent's process since the report before"),
        FieldSpec("peak_rss_bytes", int, "bytes", "the most memory that the agent's process ever held"),
        FieldSpec("cpu_temperature_c", float, "degrees C", "where the device has the sensor"),
        FieldSpec("throttled", bool, "", "the device slows itself down, where it can tell"),
    ),
)

FL_REFUSAL = Measurement(
    "fl_refusal",
    "messages of one device that were refused for one reason since the round before; the time is the round's start",
    {**_AGENT, "reason": "the reason code (docs/topics.md)"},
    (_ROUND_NUMBER, FieldSpec("count", int, "messages", "refused")),
)

FL_EVENT = Measurement(
    "fl_event",
    "something that happened to a run, when it happened",
    {**_RUN, "name": "what happened", "agent_id": "the device, where the event is about one"},
    (
        _ROUND_NUMBER,
        FieldSpec("detail", str, "", "one sentence, or empty"),
        FieldSpec("online", int, "0 or 1", "whether the device is there from now on, where the event says so"),
    ),
)

MEASUREMENTS = (FL_ROUND, FL_DEVICE, FL_REFUSAL, FL_EVENT)


def points(record: RoundRecord | DeviceRecord | RunEvent) -> list[Point]:
    """The points of one record, always the same for the same record."""
    match record:
        case RoundRecord():
            return _round_points(record)
        case DeviceRecord():
            values = {**dict(record), **dict(record.report)}
            tags = {"run_id": record.run_id, "agent_id": record.agent_id}
            return [_point(FL_DEVICE, tags, values, record.started_at)]
        case RunEvent():
            tags = {"run_id": record.run_id, "name": record.name}
            if record.agent_id is not None:
                tags["agent_id"] = record.agent_id
            values = {**dict(record), "online": _ONLINE_AFTER.get(record.name)}
            return [_point(FL_EVENT, tags, values, record.at)]


class PointStream:
    """Makes points of a run's records in the order of its file, so that a round repeated after a crash counts once.

    Such a round is recorded again, with a later start. All points of a round get the start that its first record
    has, so the repeated ones replace those that may have been sent before; and refusals that the repeated record
    does not have any more are set to 0. What only InfluxDB still knows then is an optional field, such as
    `latency_s`, that the later record lacks.
    """

    def __init__(self) -> None:
        self._started_at: dict[int, float] = {}
        self._last_refusals: dict[int, list[Point]] = {}

    def feed(self, record: RoundRecord | DeviceRecord | RunEvent) -> list[Point]:
        """The points of the file's next record."""
        if isinstance(record, RunEvent):
            return points(record)
        started_at = self._started_at.setdefault(record.round_number, record.started_at)
        found = points(record.model_copy(update={"started_at": started_at}))
        if isinstance(record, RoundRecord):
            earlier = self._last_refusals.pop(record.round_number, [])
            refusals = [point for point in found if point.measurement == FL_REFUSAL.name]
            still = [point.tags for point in refusals]
            found += [replace(p, fields={**p.fields, "count": 0}) for p in earlier if p.tags not in still]
            oldest = record.round_number - REPEATABLE_ROUNDS
            self._last_refusals = {n: p for n, p in self._last_refusals.items() if n > oldest}
            self._last_refusals[record.round_number] = [p for p in found if p.measurement == FL_REFUSAL.name]
        return found


def _round_points(record: RoundRecord) -> list[Point]:
    run = {"run_id": record.run_id}
    values = {
        **dict(record),
        "num_selected": len(record.selected),
        "num_accepted": len(record.accepted),
        "num_refused": sum(count for reasons in record.refused.values() for count in reasons.values()),
    }
    refusals = [
        _point(
            FL_REFUSAL,
            {**run, "agent_id": agent_id, "reason": reason},
            {"round_number": record.round_number, "count": count},
            record.started_at,
        )
        for agent_id, reasons in sorted(record.refused.items())
        for reason, count in sorted(reasons.items())
    ]
    return [_point(FL_ROUND, run, values, record.started_at), *refusals]


def _point(measurement: Measurement, tags: Mapping[str, str], values: Mapping[str, Any], at: float) -> Point:
    fields = {
        # float(): an int in a float field's first point would fix the field's type as integer.
        field.name: field.type(values[field.name])
        for field in measurement.fields
        if values[field.name] is not None
    }
    # Whole microseconds: as nanoseconds, a moment would be more than a float can hold exactly.
    return Point(measurement.name, tags, fields, round(at * 1e6) * 1000)
