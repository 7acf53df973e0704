"""The checks that every update passes before it may touch the aggregate. Pure: bytes in, weights or a refusal out.

In order: size, header, sender, base model, codec, names, shapes, dtypes, finite values, norm; where there is a codec,
the last four of what was decoded. Run, round, membership and
duplicates are the round engine's to check, before any of this.
"""

from dataclasses import dataclass

from coordinator.aggregation import Inspection, inspect
from schemas import codecs, wire
from schemas.codecs import CodecSpec
from schemas.errors import PayloadError, Reason
from schemas.messages import BlobHeader, DifferenceHeader
from schemas.weights import Weights, decode, prefix

MAX_EXAMPLES = 2**31


@dataclass(frozen=True, slots=True)
class Expected:
    """What an update of this round must be.

    Attributes:
        model: the weights that it starts from; `model_sha256` their digest.
        codec: of the run; None for nothing but plain weights, which are always welcome.
        max_update_norm: the largest L2 norm of (update - model).
        max_bytes: the largest blob that is read.
    """

    run_id: str
    round_number: int
    agent_id: str
    model: Weights
    model_sha256: str
    max_update_norm: float
    max_bytes: int
    codec: CodecSpec | None = None


@dataclass(frozen=True, slots=True)
class Screened:
    """An update that may be aggregated; `inspection` is what was measured on the way."""

    num_examples: int
    loss: float | None
    weights: Weights
    inspection: Inspection
    ignored_fields: int


def screen(payload: bytes | memoryview, expected: Expected) -> Screened:
    """Read an update and check it.

    Raises:
        PayloadError: with the reason code for the receipt.
    """
    if len(payload) > expected.max_bytes:
        raise PayloadError(Reason.TOO_LARGE, f"{len(payload)} bytes, at most {expected.max_bytes} are read")
    head, weights = decode(payload)
    decoded = wire.decode_header(head)
    header = decoded.message
    if isinstance(header, DifferenceHeader):
        num_examples, codec = _check_difference(header, expected)
        weights = codecs.apply(expected.model, codecs.decode(weights, codec, expected.model))
    else:
        num_examples = _check_header(header, expected)
    seen = inspect(weights, expected.model)
    if not seen.finite:
        raise PayloadError(Reason.NON_FINITE, "the update holds NaN or infinite values")
    if seen.norm > expected.max_update_norm:
        raise PayloadError(
            Reason.NORM_EXCEEDED,
            f"the update is {seen.norm:.4g} away from the model, at most {expected.max_update_norm:.4g}",
        )
    return Screened(num_examples, header.loss, weights, seen, decoded.ignored_fields)


def _check_header(header: BlobHeader, expected: Expected) -> int:
    if header.kind != "update":
        raise PayloadError(Reason.MALFORMED, f"a blob of kind {header.kind!r} on an update topic")
    if header.sender != expected.agent_id:
        raise PayloadError(Reason.WRONG_SENDER, f"sent by {header.sender!r} on the topic of {expected.agent_id!r}")
    if header.run_id != expected.run_id:
        raise PayloadError(Reason.WRONG_RUN, f"made for run {header.run_id!r}")
    if header.round_number != expected.round_number:
        raise PayloadError(Reason.STALE_ROUND, f"made for round {header.round_number}")
    if header.base_sha256 != expected.model_sha256:
        raise PayloadError(Reason.WRONG_BASE, "trained from another model than this round's")
    _check_examples(header.num_examples)
    if header.codec not in (None, "fp32"):
        raise PayloadError(Reason.UNKNOWN_CODEC, f"codec {header.codec!r} is for differences, this is a whole update")
    return header.num_examples


def _check_difference(header: DifferenceHeader, expected: Expected) -> tuple[int, CodecSpec]:
    if header.base != prefix(expected.model_sha256):
        raise PayloadError(Reason.WRONG_BASE, "trained from another model than this round's")
    num_examples = header.num_examples or 0
    _check_examples(num_examples)
    if expected.codec is None or header.codec != str(expected.codec):
        raise PayloadError(Reason.UNKNOWN_CODEC, f"codec {header.codec!r} was not asked for")
    return num_examples, expected.codec


def _check_examples(num_examples: int) -> None:
    if not 1 <= num_examples <= MAX_EXAMPLES:
        raise PayloadError(Reason.WRONG_EXAMPLES, f"{num_examples} examples: expected 1 to {MAX_EXAMPLES}")
