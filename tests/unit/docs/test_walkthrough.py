"""Every function and class that docs/walkthrough.md names is defined in the file that it links to."""

import ast
from pathlib import Path

import pytest

from tests.unit.docs.markdown import DOCS, Page

PAGE = Page(DOCS / "walkthrough.md")
NAMED = [(text.strip("`"), target) for text, target in PAGE.links() if target.endswith(".py") and text.startswith("`")]


def defined_names(path: Path) -> set[str]:
    """Functions, classes, their methods as `Class.method`, and constants of a module."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        match node:
            case ast.FunctionDef(name=name):
                names.add(name)
            case ast.ClassDef(name=name, body=body):
                names |= {name, *(f"{name}.{inner.name}" for inner in body if isinstance(inner, ast.FunctionDef))}
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return names


@pytest.mark.parametrize(("name", "target"), NAMED)
def test_named_thing_is_defined_in_the_linked_file(name: str, target: str) -> None:
    path = (PAGE.path.parent / target).resolve()
    is_file_or_package = name in (path.name, f"{path.parent.name}/")

    assert is_file_or_package or name in defined_names(path)


def test_walks_pass_through_both_sides() -> None:
    folders = {target.split("/")[1] for _, target in NAMED}

    assert {"schemas", "transport", "learning", "coordinator", "edge_agent"} <= folders
