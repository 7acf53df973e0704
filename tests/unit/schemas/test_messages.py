"""What a message may hold: its limits, and that nobody changes one that was made."""

from typing import Any

import pytest
from pydantic import ValidationError

from schemas import wire
from schemas.messages import (
    AgentReport,
    AgentRequest,
    AgentStatus,
    BriefReport,
    ChunksWanted,
    RoundRef,
    Standing,
    TrainingPlan,
)
from schemas.topics import Address, Kind, Topics
from transport.packets import publish_bytes

PLAN: dict[str, Any] = {"model": "cnn", "local_batches": 1, "batch_size": 1, "learning_rate": 0.1, "seed": 0}
SECONDS = dict.fromkeys(("download_s", "train_s", "upload_s", "idle_s", "cpu_s"), 1.0)
COUNTS = dict.fromkeys(
    (
        "batches",
        "examples",
        "payload_bytes_up",
        "payload_bytes_down",
        "packet_bytes_up",
        "packet_bytes_down",
        "peak_rss_bytes",
    ),
    1,
)


def test_message_cannot_be_changed_once_it_is_made() -> None:
    message = AgentStatus(state="online", instance="1")

    with pytest.raises(ValidationError):
        message.state = "offline"  # type: ignore[misc]


@pytest.mark.parametrize("count", [0, 65])
def test_chunks_are_asked_for_one_to_sixty_four_at_a_time(count: int) -> None:
    with pytest.raises(ValidationError):
        ChunksWanted(run_id="run-1", round_number=1, first=0, count=count)


@pytest.mark.parametrize("run_id", ["", "-run", "Run", "a/b", "run+", "x" * 64])
def test_run_must_have_a_name_that_fits_into_a_topic(run_id: str) -> None:
    with pytest.raises(ValidationError):
        RoundRef(run_id=run_id, round_number=1)


@pytest.mark.parametrize("round_number", [-1, 1_000_001])
def test_round_must_have_a_number_that_fits_into_a_topic(round_number: int) -> None:
    with pytest.raises(ValidationError):
        RoundRef(run_id="run-1", round_number=round_number)


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"local_batches": 0},
        {"batch_size": 0},
        {"seed": 2**63},
        {"options": {str(i): 1.0 for i in range(33)}},
        {"options": {"momentum": float("inf")}},
        {"model": ""},
    ],
    ids=str,
)
def test_plan_is_refused_when_nobody_could_train_it(change: dict[str, Any]) -> None:
    TrainingPlan(**PLAN)

    with pytest.raises(ValidationError):
        TrainingPlan(**PLAN | change)


@pytest.mark.parametrize("change", [{"train_s": -1.0}, {"loss": float("nan")}, {"cpu_temperature_c": 1000.0}], ids=str)
def test_report_is_refused_when_a_measurement_is_impossible(change: dict[str, float]) -> None:
    good: dict[str, Any] = {**SECONDS, **COUNTS, "loss": 0.5}
    AgentReport(**good)

    with pytest.raises(ValidationError):
        AgentReport(**good | change)


def test_parts_that_may_be_left_out_have_harmless_values() -> None:
    assert AgentRequest(want="state").round is None
    standing = Standing(phase="waiting", run_id="run-1", closed_round=0)
    assert (standing.last_accepted_round, standing.recorded_reports) == (0, ())


def test_report_with_every_field_and_many_digits_takes_300_bytes_at_most() -> None:
    seconds, counts = dict.fromkeys(SECONDS, 1.2345e-05), dict.fromkeys(COUNTS, 2**40)
    others = {"loss": 1.2345e-05, "cpu_temperature_c": 61.525, "throttled": False}
    topic = Topics().build(Address(Kind.REPORT, "second-floor-room-12", "20261125-114500-kqzv", 1_000_000))

    brief = wire.encode(BriefReport.of(AgentReport.model_validate(seconds | counts | others)))

    assert publish_bytes(topic, len(brief), expires=False) <= 300
