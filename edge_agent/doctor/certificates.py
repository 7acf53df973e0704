"""Reads what the doctor needs from a PEM certificate: whose it is and when it is valid.

Python's `ssl` tells this only of certificates that came over a connection, and an agent carries no library for it. So
this walks the few fields of RFC 5280, section 4.1, that come first. It checks no signature: TLS does.
"""

import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from schemas.errors import ConfigError

_COMMON_NAME = bytes.fromhex("55 04 03")
_CONTEXT_0 = 0xA0
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Certificate:
    """Whose it is, and when it is valid (UTC)."""

    common_name: str
    not_before: datetime
    not_after: datetime


def read_certificates(path: Path) -> list[Certificate]:
    """All certificates of a PEM file, in order.

    Raises:
        ConfigError: it cannot be read, or holds no certificate.
    """
    try:
        blocks = _PEM.findall(path.read_text())
        found = [_parse(ssl.PEM_cert_to_DER_cert(block)) for block in blocks]
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, IndexError) as error:
        raise ConfigError(f"{path} holds something that is not a PEM certificate") from error
    if not found:
        raise ConfigError(f"{path} holds no PEM certificate")
    return found


def _parse(der: bytes) -> Certificate:
    ((_, certificate),) = _values(der)
    fields = _values(_values(certificate)[0][1])
    first = 1 if fields[0][0] == _CONTEXT_0 else 0  # after the version, which the oldest certificates lack
    # From there: serial number, signature algorithm, issuer, validity, subject.
    validity, subject = fields[first + 3][1], fields[first + 4][1]
    not_before, not_after = (_time(tag, value) for tag, value in _values(validity))
    return Certificate(_common_name(subject), not_before, not_after)


def _common_name(subject: bytes) -> str:
    for _, names in _values(subject):
        for _, pair in _values(names):
            (_, kind), (_, text) = _values(pair)
            if kind == _COMMON_NAME:
                return text.decode(errors="replace")
    return ""


def _time(tag: int, value: bytes) -> datetime:
    text = value.decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError(f"no time: tag {tag}")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _values(data: bytes) -> list[tuple[int, bytes]]:
    """The elements of a DER value, one after another: tag and content."""
    out = []
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        if at + length > len(data):
            raise ValueError("cut off")
        out.append((tag, data[at : at + length]))
        at += length
    return out
