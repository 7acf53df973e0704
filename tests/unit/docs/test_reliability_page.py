"""docs/reliability.md names tests that exist, and each only once."""

import ast
from collections import Counter

from tests.unit.docs.markdown import DOCS, Page

TESTS = DOCS.parent / "tests"


def named() -> list[str]:
    rows = Page(DOCS / "reliability.md").table("What can go wrong, and what happens then", "what goes wrong").rows
    return [row["test"].strip("`") for row in rows]


def test_every_named_test_exists() -> None:
    written = {
        node.name
        for path in TESTS.rglob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)  # a class is a state machine of Hypothesis
    }

    assert set(named()) - written == set()


def test_every_line_has_a_test_of_its_own() -> None:
    assert [name for name, count in Counter(named()).items() if count > 1] == []
    assert all(named())
