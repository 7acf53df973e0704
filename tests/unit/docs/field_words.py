"""The words with which docs/topics.md describes a field, made from the field's definition in the code."""

import json
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from schemas.identifiers import IDENTIFIER_PATTERN
from schemas.messages import Part
from schemas.versions import CURRENT, Since, Version

_PATTERNS = {
    IDENTIFIER_PATTERN: "identifier",
    "^[0-9a-f]{64}$": "SHA-256",
    "^[0-9a-f]{16}$": "prefix",
    r"^\d{1,4}\.\d{1,4}$": "version",
}
_LARGE = {2**48: "2^48", 2**63: "2^63", 1e9: "1e9", 1e6: "1e6"}


def type_words(message: type[Part], name: str) -> str:
    """The type of a field, such as "integer, 0 to 64"."""
    schema = message.model_json_schema()
    return _words(schema["properties"][name])


def since_words(field: FieldInfo) -> str:
    """The version in which a field came."""
    minor = next((mark.minor for mark in field.metadata if isinstance(mark, Since)), 0)
    return Version(CURRENT.major, minor).text


def default_words(name: str, field: FieldInfo) -> str:
    """What a field that is left out means."""
    if field.is_required() or name == "v":
        return "refused"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "absent"
    return f"`{json.dumps(value)}`"


def messages() -> list[type[BaseModel]]:
    """Every message, header and part that travels."""
    found: list[type[BaseModel]] = []
    queue: list[type[Part]] = [Part]
    while queue:
        for kind in queue.pop().__subclasses__():
            queue.append(kind)
            if kind.__module__ == "schemas.messages" and kind.__subclasses__() == []:
                found.append(kind)
    return sorted(found, key=lambda kind: kind.__name__)


def _words(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return _words(next(option for option in schema["anyOf"] if option.get("type") != "null"))
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return "reason code" if name == "Reason" else f"[{name}](#{name.lower()})"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    return _WORDS[schema["type"]](schema)


def _text(schema: dict[str, Any]) -> str:
    if "pattern" in schema:
        return _PATTERNS[schema["pattern"]]
    if "minLength" in schema:
        return f"text, {schema['minLength']} to {schema['maxLength']} characters"
    return f"text, at most {schema['maxLength']} characters"


def _array(schema: dict[str, Any]) -> str:
    return f"array of at most {schema['maxItems']}: {_words(schema['items'])}"


def _object(schema: dict[str, Any]) -> str:
    key, value = _text(schema["propertyNames"]), _words(schema["additionalProperties"])
    return f"object of at most {schema['maxProperties']}: {key}, to {value}"


def _quantity(schema: dict[str, Any]) -> str:
    limits = _limits(schema)
    return f"{schema['type']}, {limits}" if limits else str(schema["type"])


def _limits(schema: dict[str, Any]) -> str:
    if "exclusiveMinimum" in schema:
        return f"above {_number(schema['exclusiveMinimum'])}, at most {_number(schema['maximum'])}"
    if "exclusiveMaximum" in schema:
        return f"{_number(schema['minimum'])} to {_number(schema['exclusiveMaximum'])} - 1"
    if "maximum" in schema:
        return f"{_number(schema['minimum'])} to {_number(schema['maximum'])}"
    return ""


def _number(value: float) -> str:
    if isinstance(value, float) and value in _LARGE:
        return _LARGE[value]
    if value in (2**48, 2**63):
        return _LARGE[value]
    return f"{value:.15g}"


_WORDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "string": _text,
    "array": _array,
    "object": _object,
    "boolean": lambda _: "true or false",
    "integer": _quantity,
    "number": _quantity,
}
