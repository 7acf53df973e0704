"""Messages to bytes and back: what each minor writes and reads, and what is refused with which reason."""

import json
from typing import Annotated, Any

import pytest

from schemas import wire
from schemas.errors import PayloadError, Reason
from schemas.messages import AgentReport, AgentStatus, Part, Receipt, RoundAnnouncement, WireMessage
from schemas.versions import CURRENT, Since

STATUS = AgentStatus(state="online", instance="a1", codecs=("int8",))


class Inner(Part):
    old: int
    young: Annotated[int | None, Since(1)] = None


class Outer(WireMessage):
    inner: Inner
    spare: Inner | None = None


def as_json(**body: Any) -> bytes:
    return json.dumps(body).encode()


def refusal(payload: bytes, kind: type[WireMessage] = AgentStatus) -> PayloadError:
    with pytest.raises(PayloadError) as caught:
        wire.decode(payload, kind)
    return caught.value


def test_message_is_written_compactly_with_the_current_version() -> None:
    assert wire.encode(STATUS) == b'{"v":"1.2","state":"online","instance":"a1","codecs":["int8"]}'


def test_field_is_left_out_when_the_reader_has_an_older_minor() -> None:
    assert json.loads(wire.encode(STATUS, minor=0)) == {"v": "1.0", "state": "online", "instance": "a1"}


def test_field_inside_a_part_is_left_out_when_the_reader_has_an_older_minor() -> None:
    message = Outer(inner=Inner(old=1, young=2), spare=Inner(old=3, young=4))

    assert json.loads(wire.encode(message, minor=0)) == {"v": "1.0", "inner": {"old": 1}, "spare": {"old": 3}}


def test_version_written_is_our_own_when_the_reader_has_a_newer_minor() -> None:
    assert json.loads(wire.encode(STATUS, minor=7))["v"] == CURRENT.text


def test_measurements_are_written_with_five_digits_and_other_numbers_exactly() -> None:
    counts = dict.fromkeys(("batches", "examples", "payload_bytes_up", "payload_bytes_down"), 123456789)
    counts |= dict.fromkeys(("packet_bytes_up", "packet_bytes_down", "peak_rss_bytes"), 123456789)
    seconds = dict.fromkeys(("download_s", "train_s", "upload_s", "idle_s", "cpu_s", "loss"), 0.123456789)

    body = json.loads(wire.encode(AgentReport.model_validate(counts | seconds)))

    assert (body["train_s"], body["peak_rss_bytes"]) == (0.12346, 123456789)


def test_message_of_a_known_minor_is_read_when_nothing_is_unknown() -> None:
    decoded = wire.decode(as_json(v="1.0", state="online", instance="a1"), AgentStatus)

    assert decoded.message.instance == "a1"
    assert (decoded.version.text, decoded.ignored_fields) == ("1.0", 0)


def test_message_is_refused_when_its_minor_does_not_have_a_field_yet() -> None:
    assert refusal(as_json(v="1.0", state="online", instance="a1", codecs=[])).reason is Reason.UNEXPECTED_FIELD


def test_message_is_refused_when_a_part_has_a_field_that_its_minor_does_not_have_yet() -> None:
    payload = as_json(v="1.0", inner={"old": 1, "young": 2})

    assert refusal(payload, Outer).reason is Reason.UNEXPECTED_FIELD


def test_message_is_refused_when_a_known_minor_has_an_unknown_field() -> None:
    error = refusal(as_json(v="1.1", state="online", instance="a1", colour="red"))

    assert error.reason is Reason.UNEXPECTED_FIELD
    assert "colour" in error.detail


def test_unknown_fields_are_dropped_and_counted_when_the_minor_is_newer_than_ours() -> None:
    payload = as_json(v="1.9", inner={"old": 1, "shade": 2}, spare={"old": 3, "shade": 4, "tone": 5}, colour="red")

    decoded = wire.decode(payload, Outer)

    assert decoded.ignored_fields == 4
    assert (decoded.message.inner.old, decoded.version.text) == (1, "1.9")


def test_message_of_another_major_is_refused_in_words_that_say_what_to_do() -> None:
    error = refusal(as_json(v="2.0", state="online", instance="a1"))

    assert error.reason is Reason.UNSUPPORTED_VERSION
    assert "2.0" in error.detail
    assert "install a release of the same major version on both sides" in error.detail


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"not json",
        b"[]",
        b"null",
        b'{"state":"online","instance":"a1"}',
        as_json(v=1.1, state="online", instance="a1"),
        as_json(v="1", state="online", instance="a1"),
        as_json(v="1.0\n", state="online", instance="a1"),
        as_json(v="\u0661.\u0660", state="online", instance="a1"),
        as_json(v="1.1", state="away", instance="a1"),
        as_json(v="1.1", state="online", instance=7),
        as_json(v="1.1", state="online", instance="x" * 33),
        as_json(v="1.9", inner="no object"),
        b'{"v":"1.1","state":"online","instance":"\xff"}',
        b'{"v":' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
def test_message_is_malformed_when_it_is_not_what_it_should_be(payload: bytes) -> None:
    assert refusal(payload).reason is Reason.MALFORMED


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_message_is_malformed_when_a_number_is_not_finite(number: str) -> None:
    payload = f'{{"v":"1.1","run_id":"r","round_number":1,"outcome":"accepted","detail":{number}}}'.encode()

    assert refusal(payload, Receipt).reason is Reason.MALFORMED


def test_message_is_refused_before_it_is_parsed_when_it_is_too_large() -> None:
    payload = as_json(v="1.1", state="online", instance="a1", codecs=["x" * wire.MAX_JSON_BYTES])

    assert refusal(payload).reason is Reason.TOO_LARGE


def test_integer_is_refused_when_it_is_written_as_a_boolean_or_with_a_decimal_point() -> None:
    for number in (True, 3.0, "3"):
        payload = as_json(v="1.1", run_id="run-1", round_number=number, outcome="accepted")
        assert refusal(payload, Receipt).reason is Reason.MALFORMED


def test_identifiers_are_refused_when_they_hold_topic_characters() -> None:
    for run_id in ("a/b", "+", "#", "", "-a", "A", "a" * 64, "a\n"):
        payload = as_json(v="1.1", run_id=run_id, round_number=1, outcome="accepted")
        assert refusal(payload, Receipt).reason is Reason.MALFORMED


def test_detail_of_a_refusal_stays_short_when_the_message_is_long() -> None:
    payload = as_json(v="1.1", **{f"field-{i}": 1 for i in range(500)})

    assert len(refusal(payload, RoundAnnouncement).detail) <= 300
