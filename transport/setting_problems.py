"""What is wrong with a setting, in words that a person can act on: what was expected, what was found, what was meant.

Knows pydantic's kinds of errors and the keys of a settings class; `settings.py` knows where values came from.
"""

import difflib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError

from schemas.identifiers import IDENTIFIER_PATTERN, is_identifier


class Problem(NamedTuple):
    """What pydantic found wrong with one value."""

    location: tuple[str, ...]
    type: str
    words: str
    context: Mapping[str, Any]
    found: Any


def problems(error: ValidationError) -> list[Problem]:
    return [
        Problem(tuple(map(str, p["loc"])), p["type"], p["msg"], p.get("ctx", {}), p["input"])
        for p in error.errors(include_url=False)
    ]


def in_words(kind: type[BaseModel], problem: Problem) -> str:
    key = ".".join(problem.location) or "the whole"
    if problem.type == "extra_forbidden":
        # The value is not shown: it may be a secret that somebody put where it does not belong.
        return f"there is no key {key!r}{_did_you_mean(kind, problem.location)}"
    if problem.type == "missing":
        return f"the key {key!r} is missing"
    expected = _expected(problem)
    return (
        f"{key}: {expected}" if problem.type == "value_error" else f"{key}: {expected}, found {_shown(problem.found)}"
    )


def _expected(problem: Problem) -> str:
    if problem.type == "string_pattern_mismatch" and problem.context["pattern"] == IDENTIFIER_PATTERN:
        return f"expected 1 to 63 lower-case letters, digits or '-', not starting with '-'{_as_id(problem.found)}"
    if problem.type in _WORDS:
        return _WORDS[problem.type].format_map(problem.context)
    kind = problem.type.partition("_")[0]
    return f"expected {_TYPES[kind]}" if kind in _TYPES else problem.words


_WORDS = {
    "value_error": "{error}",
    "greater_than_equal": "expected {ge} or more",
    "less_than_equal": "expected {le} or less",
    "greater_than": "expected more than {gt}",
    "less_than": "expected less than {lt}",
    "literal_error": "expected one of {expected}",
    "string_too_short": "expected some text",
}
"""Pydantic's limits in our words, with the names of its contexts."""

_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a number",
    "bool": "true or false",
    "string": 'text in quotes, such as "x"',
    "path": 'a path in quotes, such as "data"',
    "tuple": "a list in brackets, such as [1, 2]",
    "model": "a table: a line [name] and keys below it",
    "dict": "a table: a line [name] and keys below it",
}
"""What each of pydantic's types is called in TOML."""


def _as_id(text: object) -> str:
    """A suggestion for something that is almost an identifier, such as "Room 12"."""
    plain = unicodedata.normalize("NFKD", str(text)).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:63]
    return f" (such as {slug!r})" if is_identifier(slug) else ""


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | int | float) else str(value)[:80]


def _did_you_mean(kind: type[BaseModel], location: tuple[str, ...]) -> str:
    keys = {".".join(key): key for key in all_keys(kind)}
    siblings = {key[-1]: name for name, key in keys.items() if key[:-1] == location[:-1]}
    near = difflib.get_close_matches(location[-1], siblings, n=1)
    if near:
        return f": did you mean {siblings[near[0]]!r}?"
    moved = [name for name, key in keys.items() if key[-1] == location[-1]]
    near = moved[:1] or difflib.get_close_matches(".".join(location), keys, n=1)
    return f": did you mean {near[0]!r}?" if near else ""


def all_keys(kind: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    for name, field in kind.model_fields.items():
        section = section_of(field.annotation)
        yield from ((name, *rest) for rest in all_keys(section)) if section else ()
        yield (name,)


def section_of(annotation: Any) -> type[BaseModel] | None:
    found = [kind for kind in alternatives(annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return found[0] if found else None


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The members of a union; of anything else, itself."""
    return get_args(annotation) if type(None) in get_args(annotation) else (annotation,)
