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
from schemas.messages import BlobHeader
from schemas.weights import Weights, check_structure, decode

MAX_EXAMPLES = 2**31

PLAIN_TEXTS = (None, "fp32")
"""What a header says of weights that are not encoded, which every agent may send."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What an update of this round must be.

    Attributes:
        model: the weights that it starts from; `model_sha256` their digest.
        codec: what it was asked to be encoded with; None for nothing but plain weights.
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

    header: BlobHeader
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
    decoded = wire.decode(head, BlobHeader)
    _check_header(decoded.message, expected)
    if decoded.message.codec in PLAIN_TEXTS:
        check_structure(weights, expected.model)
    elif expected.codec is not None:
        weights = codecs.apply(expected.model, codecs.decode(weights, expected.codec, expected.model))
    seen = inspect(weights, expected.model)
    if not seen.finite:
        raise PayloadError(Reason.NON_FINITE, "the update holds NaN or infinite values")
    if seen.norm > expected.max_update_norm:
        raise PayloadError(
            Reason.NORM_EXCEEDED,
            f"the update is {seen.norm:.4g} away from the model, at most {expected.max_update_norm:.4g}",
        )
    return Screened(decoded.message, weights, seen, decoded.ignored_fields)


def _check_header(header: BlobHeader, expected: Expected) -> None:
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
    if not 1 <= header.num_examples <= MAX_EXAMPLES:
        raise PayloadError(Reason.WRONG_EXAMPLES, f"{header.num_examples} examples: expected 1 to {MAX_EXAMPLES}")
    asked = None if expected.codec is None else str(expected.codec)
    if header.codec not in {*PLAIN_TEXTS, asked}:
        raise PayloadError(Reason.UNKNOWN_CODEC, f"codec {header.codec!r} was not asked for")
