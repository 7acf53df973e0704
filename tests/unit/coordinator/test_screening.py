"""The order of the checks on an update: the first failure is the reason."""

import pytest

from coordinator.screening import Expected, screen
from schemas import wire
from schemas.errors import PayloadError, Reason
from schemas.messages import BlobHeader
from schemas.weights import Weights, digest, encode
from tests.unit.coordinator.engine_driver import three

MODEL = three(0, 0, 0)
EXPECTED = Expected(
    run_id="run-1",
    round_number=3,
    agent_id="a",
    model=MODEL,
    model_sha256=digest(MODEL),
    max_update_norm=10.0,
    max_bytes=4096,
)


def blob(weights: Weights, **fields: object) -> bytes:
    header = BlobHeader(
        kind="update",
        run_id="run-1",
        round_number=3,
        sender="a",
        base_sha256=digest(MODEL),
        num_examples=5,
        num_batches=1,
    )
    return encode(weights, wire.encode(header.model_copy(update=fields)))


def test_right_update_is_read_with_what_was_measured() -> None:
    update = screen(blob(three(3, 4, 0)), EXPECTED)
    assert update.num_examples == 5
    assert update.weights["w"].tolist() == [3, 4, 0]
    assert update.inspection.norm == pytest.approx(5.0)
    assert update.ignored_fields == 0


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"x" * 4097, Reason.TOO_LARGE),
        (blob(three(1, 2), kind="model", sender="b"), Reason.MALFORMED),
        (blob(three(1, 2), sender="b", run_id="run-2"), Reason.WRONG_SENDER),
        (blob(three(1, 2), run_id="run-2", round_number=2), Reason.WRONG_RUN),
        (blob(three(1, 2), round_number=2, base_sha256="1" * 64), Reason.STALE_ROUND),
        (blob(three(1, 2), base_sha256="1" * 64, num_examples=0), Reason.WRONG_BASE),
        (blob(three(1, 2), num_examples=0, codec="x"), Reason.WRONG_EXAMPLES),
        (blob(three(1, 2), codec="x"), Reason.UNKNOWN_CODEC),
        (blob(three(1, float("nan"))), Reason.WRONG_SHAPE),
        (blob(three(1000, 1, float("-inf"))), Reason.NON_FINITE),
        (blob(three(10, 1, 0)), Reason.NORM_EXCEEDED),
    ],
)
def test_first_failure_is_the_reason(payload: bytes, reason: Reason) -> None:
    with pytest.raises(PayloadError) as refused:
        screen(payload, EXPECTED)
    assert refused.value.reason is reason
