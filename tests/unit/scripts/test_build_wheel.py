"""A release is named after what is packaged; building it takes the package index and is done on the test bed."""

from pathlib import Path

import pytest

from scripts.build_wheel import ROOT, release, sources

PYPROJECT = """
[project]
version = "1.2.3"
[tool.setuptools.packages.find]
include = ["pack", "pack.*"]
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "pack" / "part").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "pack" / "part" / "code.py").write_text("x = 1\n")
    return tmp_path


def test_release_stays_when_nothing_that_is_packaged_changes(checkout: Path) -> None:
    before = release(checkout)
    (checkout / "README.md").write_text("new")
    (checkout / "pack" / "__pycache__").mkdir()
    (checkout / "pack" / "__pycache__" / "code.pyc").write_bytes(b"compiled")

    assert release(checkout) == before
    assert before.startswith("1.2.3-")


@pytest.mark.parametrize("path", ["pyproject.toml", "pack/part/code.py", "pack/new.py"])
def test_release_changes_when_something_that_is_packaged_does(checkout: Path, path: str) -> None:
    before = release(checkout)
    file = checkout / path
    file.write_text((file.read_text() if file.exists() else "") + "# changed\n")

    assert release(checkout) != before


def test_release_changes_when_a_file_is_renamed(checkout: Path) -> None:
    before = release(checkout)
    code = checkout / "pack" / "part" / "code.py"
    code.rename(code.with_name("other.py"))

    assert release(checkout) != before


def test_wheel_has_templates_but_no_tests_when_made_of_this_checkout() -> None:
    names = {str(path.relative_to(ROOT)) for path in sources(ROOT)}

    assert {"mosquitto/templates/acl.j2", "edge_agent/cli.py", "schemas/py.typed"} <= names
    assert not [name for name in names if name.startswith(("tests/", "ansible/", "docs/"))]
