"""How a codec is named: the text that a person types and that travels in announcements and blob headers."""

import re
from dataclasses import dataclass
from enum import StrEnum

from schemas.errors import PayloadError, Reason


class Kind(StrEnum):
    """How one number is written."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
    INT4 = "int4"
    TERNARY = "ternary"


CAPABILITIES = ("fp16", "int8", "int4", "ternary", "topk")
"""What this version encodes and decodes besides plain `fp32`, as an agent announces it."""

DEFAULT_THRESHOLD = 1.5
MAX_TEXT = 64

_NUMBER = re.compile(r"\d{1,3}(\.\d{1,4})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class CodecSpec:
    """One codec with all its settings; `str` gives the shortest text that `parse_codec` reads back.

    Attributes:
        kind: how one number is written.
        threshold: for ternary without `topk`: values above this many times the block's root mean square are kept.
        topk: the fraction of all values that is kept, the largest ones; None keeps all (ternary: see `threshold`).
        per_channel: one scale for each index of a tensor's first axis instead of one for each tensor.
        stochastic: rounded up or down at random so that the expectation is right, instead of to the nearest.
    """

    kind: Kind
    threshold: float | None = None
    topk: float | None = None
    per_channel: bool = False
    stochastic: bool = False

    @property
    def is_identity(self) -> bool:
        """Tensors travel as they are."""
        return self.kind is Kind.FP32 and self.topk is None

    @property
    def is_sparse(self) -> bool:
        """Only some values are written, with their positions."""
        return self.topk is not None or self.kind is Kind.TERNARY

    @property
    def needs(self) -> frozenset[str]:
        """Those of `CAPABILITIES` that a receiver must have."""
        kind = set() if self.kind is Kind.FP32 else {str(self.kind)}
        return frozenset(kind if self.topk is None else kind | {"topk"})

    def __str__(self) -> str:
        kind = str(self.kind) if self.threshold is None else f"ternary:{self.threshold:.10g}"
        parts = [kind] if self.topk is None else [f"topk:{self.topk:.10g}", kind]
        if self.topk is not None and self.kind is Kind.FP32:
            parts.pop()
        return ",".join(parts + ["channel"] * self.per_channel + ["stochastic"] * self.stochastic)


@dataclass(frozen=True, slots=True)
class CodecPair:
    """A run's codecs: `up` for updates, `down` for models."""

    up: CodecSpec
    down: CodecSpec

    def __str__(self) -> str:
        return str(self.up) if self.up == self.down else f"{self.up}/{self.down}"


PLAIN = CodecPair(CodecSpec(Kind.FP32), CodecSpec(Kind.FP32))
"""Whole fp32 models and updates, as version 1.0 sends them."""


def parse_codecs(text: str) -> CodecPair:
    """Read a run's codecs: one for both directions, such as `int8`, or UP/DOWN, such as `ternary:1/int4`.

    Raises:
        PayloadError: unknown-codec, with a text for the person who typed it.
    """
    up, slash, down = text.partition("/")
    return CodecPair(parse_codec(up), parse_codec(down if slash else up))


def parse_codec(text: str) -> CodecSpec:
    """Read a codec's text: words separated by commas, in any order, each at most once.

    One of `fp32` (the default), `fp16`, `int8`, `int4` and `ternary` or `ternary:THRESHOLD`; `topk:FRACTION`;
    `tensor` (the default) or `channel`; `nearest` (the default) or `stochastic`.

    Raises:
        PayloadError: unknown-codec, with a text for the person who typed it.
    """
    words = text[: MAX_TEXT + 1].split(",")
    if len(text) > MAX_TEXT or len(set(words)) < len(words):
        raise _refusal(text, "too long, or a word stands there twice")
    kinds = [word for word in words if word.partition(":")[0] in set(Kind)]
    fractions = [word for word in words if word.startswith("topk:")]
    scopes = [word for word in words if word in ("tensor", "channel")]
    roundings = [word for word in words if word in ("nearest", "stochastic")]
    if len(kinds + fractions + scopes + roundings) < len(words):
        raise _refusal(text, "expected fp32, fp16, int8, int4, ternary:T, topk:F, channel, stochastic")
    if max(map(len, (kinds, fractions, scopes, roundings))) > 1:
        raise _refusal(text, "two words contradict each other")
    topk = _number(fractions[0], text) if fractions else None
    kind, threshold = _kind(kinds[0] if kinds else "fp32", topk, text)
    spec = CodecSpec(kind, threshold, topk, scopes == ["channel"], roundings == ["stochastic"])
    _check(spec, text)
    return spec


def _kind(word: str, topk: float | None, text: str) -> tuple[Kind, float | None]:
    name, colon, _ = word.partition(":")
    if colon and name != Kind.TERNARY:
        raise _refusal(text, f"{name} takes no number")
    if colon and topk is not None:
        raise _refusal(text, "topk and a threshold both say what is kept")
    if name != Kind.TERNARY or topk is not None:
        return Kind(name), None
    return Kind.TERNARY, _number(word, text) if colon else DEFAULT_THRESHOLD


def _check(spec: CodecSpec, text: str) -> None:
    if spec.topk is not None and not 0 < spec.topk <= 1:
        raise _refusal(text, "topk takes a fraction from 0.0001 to 1")
    if spec.kind is Kind.FP32 and (spec.per_channel or spec.stochastic):
        raise _refusal(text, "fp32 values are neither scaled nor rounded")
    if spec.kind is Kind.TERNARY and spec.stochastic and not spec.threshold:
        raise _refusal(text, "stochastic ternary takes a threshold above 0 and no topk")


def _number(word: str, text: str) -> float:
    name, _, number = word.partition(":")
    if not _NUMBER.fullmatch(number):
        raise _refusal(text, f"{name} takes a number such as {name}:0.02, with at most four decimals")
    return float(number)


def _refusal(text: str, why: str) -> PayloadError:
    return PayloadError(Reason.UNKNOWN_CODEC, f"codec {text[:MAX_TEXT]!r}: {why}")
