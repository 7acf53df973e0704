"""Messages to bytes and back, with the rules between versions and the limits that hold before parsing.

Writing: fields newer than the minor that the receiver understands are left out. Reading: another major is
refused; unknown keys of a *higher* minor are dropped and counted; within a known minor, a key that the minor
does not have is refused. Nothing here raises anything but PayloadError.
"""

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar, get_args

import pydantic_core
from pydantic import BaseModel, ValidationError

from schemas.errors import PayloadError, Reason
from schemas.messages import AgentReport, BlobHeader, BriefReport, DifferenceHeader, WireMessage
from schemas.versions import CURRENT, Since, Version

MAX_JSON_BYTES = 16 * 1024
"""The largest JSON message or blob header that is parsed at all."""

M = TypeVar("M", bound=WireMessage)

_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_CURRENT_TEXT = CURRENT.text
_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})\Z")


@dataclass(frozen=True, slots=True)
class Decoded(Generic[M]):
    """A message as read: `version` the sender wrote, `ignored_fields` dropped because they are newer than us."""

    message: M
    version: Version
    ignored_fields: int = 0


def encode(message: WireMessage, minor: int = CURRENT.minor) -> bytes:
    """The message as compact JSON, with the fields of `minor` (or of our own, when that is lower)."""
    minor = min(minor, CURRENT.minor)
    body = _without_newer(message.model_dump(mode="json", exclude_none=True), type(message), minor)
    body["v"] = _CURRENT_TEXT if minor == CURRENT.minor else Version(CURRENT.major, minor).text
    if message.significant_digits is not None:
        body = {name: _rounded(value, message.significant_digits) for name, value in body.items()}
    return _ENCODER.encode(body).encode()


def decode(payload: bytes | memoryview, kind: type[M]) -> Decoded[M]:
    """Read a message of the given kind.

    Raises:
        PayloadError: too-large, malformed, unsupported-version or unexpected-field.
    """
    text = _limited(payload)
    return _decode(text, _parse_object(text), kind)


def _limited(payload: bytes | memoryview) -> bytes:
    if len(payload) > MAX_JSON_BYTES:
        raise PayloadError(Reason.TOO_LARGE, f"{len(payload)} bytes of JSON, at most {MAX_JSON_BYTES} are read")
    return bytes(payload)


def _decode(text: bytes, body: dict[str, Any], kind: type[M]) -> Decoded[M]:
    version = _version_of(body)
    ignored = 0
    if version.minor > CURRENT.minor:
        body, ignored = _without_unknown(body, kind)
        text = json.dumps(body).encode()
    elif version.minor < CURRENT.minor:
        _refuse_newer_fields(body, kind, version.minor)
    try:
        message = kind.model_validate_json(text)
    except (ValidationError, ValueError) as error:
        raise _refusal(error, kind) from error
    return Decoded(message, version, ignored)


def decode_header(payload: bytes | memoryview) -> Decoded[BlobHeader] | Decoded[DifferenceHeader]:
    """Read the header of a weight blob, of either kind.

    Raises:
        PayloadError: as `decode`.
    """
    text = _limited(payload)
    body = _parse_object(text)
    if body.get("kind") == "difference":
        return _decode(text, body, DifferenceHeader)
    return _decode(text, body, BlobHeader)


def decode_report(payload: bytes | memoryview) -> Decoded[AgentReport]:
    """Read a report, in words or brief.

    Raises:
        PayloadError: as `decode`.
    """
    text = _limited(payload)
    body = _parse_object(text)
    if "values" not in body:
        return _decode(text, body, AgentReport)
    brief = _decode(text, body, BriefReport)
    try:
        return Decoded(brief.message.report, brief.version, brief.ignored_fields)
    except (ValidationError, ValueError) as error:
        raise _refusal(error, AgentReport) from error


def _parse_object(payload: bytes) -> dict[str, Any]:
    try:
        body = pydantic_core.from_json(payload, allow_inf_nan=False, allow_partial=False)
    except ValueError as error:
        raise PayloadError(Reason.MALFORMED, f"not JSON: {error}"[:300]) from error
    if not isinstance(body, dict):
        raise PayloadError(Reason.MALFORMED, "JSON, but not an object")
    return body


def _version_of(body: dict[str, Any]) -> Version:
    text = body.get("v")
    if text == _CURRENT_TEXT:
        return CURRENT
    match = _VERSION.match(text) if isinstance(text, str) and text.isascii() else None
    if match is None:
        raise PayloadError(Reason.MALFORMED, "no version: expected a key 'v' such as \"1.0\"")
    version = Version(int(match[1]), int(match[2]))
    if version.major != CURRENT.major:
        raise PayloadError(
            Reason.UNSUPPORTED_VERSION,
            f"schema version {version.text} cannot be read here: this side speaks {CURRENT.major}.x; "
            "install a release of the same major version on both sides",
        )
    return version


@cache
def _fields_since(kind: type[BaseModel], minor: int) -> frozenset[str]:
    """The fields of a message that `minor` does not have yet."""
    return frozenset(
        name
        for name, field in kind.model_fields.items()
        if any(isinstance(mark, Since) and mark.minor > minor for mark in field.metadata)
    )


@cache
def _parts(kind: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The fields of a message that are themselves groups of fields, with the group's type."""
    found = {name: _part_type(field.annotation) for name, field in kind.model_fields.items()}
    return {name: part for name, part in found.items() if part is not None}


def _part_type(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _without_newer(body: dict[str, Any], kind: type[BaseModel], minor: int) -> dict[str, Any]:
    if minor == CURRENT.minor:
        return body
    for name in _fields_since(kind, minor):
        body.pop(name, None)
    for name, part in _parts(kind).items():
        if name in body:
            _without_newer(body[name], part, minor)
    return body


def _refuse_newer_fields(body: dict[str, Any], kind: type[BaseModel], minor: int) -> None:
    for name in _fields_since(kind, minor):
        if name in body:
            raise PayloadError(
                Reason.UNEXPECTED_FIELD, f"{kind.__name__} of minor {minor} does not have the field {name!r}"
            )
    for name, part in _parts(kind).items():
        if isinstance(body.get(name), dict):
            _refuse_newer_fields(body[name], part, minor)


def _without_unknown(body: dict[str, Any], kind: type[BaseModel]) -> tuple[dict[str, Any], int]:
    kept = {name: value for name, value in body.items() if name in kind.model_fields}
    ignored = len(body) - len(kept)
    for name, part in _parts(kind).items():
        if isinstance(kept.get(name), dict):
            kept[name], inside = _without_unknown(kept[name], part)
            ignored += inside
    return kept, ignored


def _refusal(error: ValueError, kind: type[BaseModel]) -> PayloadError:
    if not isinstance(error, ValidationError):
        return PayloadError(Reason.MALFORMED, f"not a valid {kind.__name__}: {error}"[:300])
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    extra = first["type"] == "extra_forbidden"
    reason = Reason.UNEXPECTED_FIELD if extra else Reason.MALFORMED
    return PayloadError(reason, f"{kind.__name__}.{where}: {first['msg']}"[:300])


def _rounded(value: Any, digits: int) -> Any:
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value
