"""Records come back as they were written, and a repeated one has the key of the one that it replaces."""

import pytest
from pydantic import ValidationError

from schemas.records import RECORDS, DeviceRecord, RoundRecord, RunEvent
from tests.sample_records import device_record, round_record, run_event

SAMPLES = [round_record(), device_record(), run_event("agent-online", agent_id="pi-1")]


@pytest.mark.parametrize("record", SAMPLES, ids=lambda record: record.type)
def test_record_comes_back_when_its_line_is_read(record: RoundRecord | DeviceRecord | RunEvent) -> None:
    line = record.model_dump_json()

    assert "\n" not in line
    assert RECORDS.validate_json(line) == record


@pytest.mark.parametrize("line", ['{"type":"other"}', "{}", '{"type":"event"}', "[]", ""])
def test_line_is_refused_when_it_is_no_record(line: str) -> None:
    with pytest.raises(ValidationError):
        RECORDS.validate_json(line)


def test_repeated_record_has_the_same_key() -> None:
    assert round_record(3).key == round_record(3, attempt=2, accepted=("pi-3",)).key
    assert device_record(3).key == device_record(3, latency_s=None).key


def test_records_of_other_rounds_agents_or_kinds_have_other_keys() -> None:
    records: list[RoundRecord | DeviceRecord | RunEvent] = [
        round_record(1),
        round_record(2),
        device_record(1),
        device_record(2),
        device_record(1, "pi-2"),
        run_event("started"),
        run_event("resumed"),
        run_event("agent-online", agent_id="pi-1"),
        run_event("agent-online", agent_id="pi-2"),
    ]

    assert len({record.key for record in records}) == len(records)
