"""Versions are ordered, written as they travel, and every field that came later can be left out."""

import pytest

from schemas import messages
from schemas.messages import WireMessage
from schemas.versions import CURRENT, Since, Version


@pytest.mark.parametrize(("older", "newer"), [((1, 0), (1, 1)), ((1, 9), (1, 10)), ((1, 9), (2, 0))])
def test_versions_are_ordered_as_numbers(older: tuple[int, int], newer: tuple[int, int]) -> None:
    assert Version(*older) < Version(*newer)


def test_version_is_written_as_it_travels() -> None:
    assert Version(1, 10).text == "1.10"


@pytest.mark.parametrize("kind", WireMessage.__subclasses__(), ids=lambda kind: kind.__name__)
def test_later_field_has_a_default_and_is_of_a_version_that_exists(kind: type[WireMessage]) -> None:
    assert kind.__module__ == messages.__name__
    for name, field in kind.model_fields.items():
        for mark in field.metadata:
            if isinstance(mark, Since):
                assert not field.is_required(), name
                assert 0 < mark.minor <= CURRENT.minor, name
