"""Every relative link on our pages leads to something that exists."""

import subprocess
from pathlib import Path

import pytest

from tests.unit.docs.markdown import DOCS, Page

ROOT = DOCS.parent


def tracked(pattern: str, *options: str) -> list[str]:
    """Files of the repository; none where it is not a git checkout."""
    command = ["git", "ls-files", *options, pattern]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.splitlines()
    return sorted(name for name in listed if (ROOT / name).exists())


def pages() -> list[str]:
    """Every Markdown page of the repository, committed or about to be."""
    listed = tracked("*.md", "--cached", "--others", "--exclude-standard")
    return listed or sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")])


def missing_target(page: Page, target: str) -> bool:
    """True for a link that leads nowhere."""
    if "://" in target or target.startswith("mailto:"):
        return False
    name, _, fragment = target.partition("#")
    path = page.path.parent / name if name else page.path
    if not path.exists():
        return True
    return bool(fragment) and path.suffix == ".md" and fragment not in Page(path).anchors()


@pytest.mark.parametrize("name", pages())
def test_link_leads_to_something_that_exists(name: str) -> None:
    page = Page(ROOT / name)

    assert [target for _, target in page.links() if missing_target(page, target)] == []


def test_readme_maps_every_package() -> None:
    rows = Page(ROOT / "README.md").table("Where things are", "folder").rows
    mapped = {row["folder"].strip("`/") for row in rows}

    packages = {Path(name).parts[0] for name in tracked("*/__init__.py")}
    assert packages <= mapped
    assert all((ROOT / name).is_dir() for name in mapped)


def test_readme_opens_with_the_two_commands() -> None:
    block = Page(ROOT / "README.md").blocks[0]
    commands = [line.split()[0] for line in block.text.splitlines()]

    assert commands == ["scripts/demo", "scripts/test"]
    assert all(Path(ROOT / command).stat().st_mode & 0o111 for command in commands)
