"""The files that browsers get: nothing in them points elsewhere, and what is vendored is what npm has locked."""

import hashlib
import json
import re
from pathlib import Path

import pytest

WEB = Path(__file__).parents[4] / "coordinator" / "web"
STATIC = WEB / "static"
VENDOR = STATIC / "vendor"
OURS = sorted(path for path in STATIC.iterdir() if path.is_file())
LOCKED = {
    name.removeprefix("node_modules/"): package
    for name, package in json.loads((WEB / "package-lock.json").read_text())["packages"].items()
    if name
}


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_page_refers_to_nothing_elsewhere(path: Path) -> None:
    text = path.read_text().replace("http://www.w3.org/2000/svg", "")  # a name, not an address

    assert not re.search(r"https?:|[\"'(]//|@import", text)


@pytest.mark.parametrize("path", [path for path in OURS if path.suffix == ".html"], ids=lambda path: path.name)
def test_page_has_neither_script_nor_style_in_its_text(path: Path) -> None:
    text = path.read_text()

    assert not re.search(r"<style|<script(?! src=)| style=| on[a-z]+=", text)
    for address in re.findall(r"(?:src|href)=\"/static/([^\"#]+)", text):
        assert (STATIC / address).is_file()


@pytest.mark.parametrize("path", [path for path in OURS if path.suffix == ".js"], ids=lambda path: path.name)
def test_script_writes_text_and_never_markup(path: Path) -> None:
    text = path.read_text()

    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)
    for address in re.findall(r"from \"\./([^\"]+)\"", text):
        assert (STATIC / address).is_file()


def test_vendored_files_are_those_that_were_built() -> None:
    lines = (VENDOR / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}

    assert sums.keys() == {path.name for path in VENDOR.iterdir()} - {"SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest


def test_vendored_chart_library_is_of_the_locked_version_with_its_licences() -> None:
    script = (VENDOR / "chart.umd.min.js").read_text()

    assert f"Chart.js v{LOCKED['chart.js']['version']}" in script[:200]
    for name, package in (("chart", "MIT"), ("kurkle-color", "MIT"), ("inter", "Open Font License")):
        (licence,) = VENDOR.glob(f"{name}*LICENSE*")
        assert package in licence.read_text()


def test_lock_has_the_versions_asked_for_with_a_hash_each_and_names_no_registry() -> None:
    asked = json.loads((WEB / "package.json").read_text())["dependencies"]

    assert {name: LOCKED[name]["version"] for name in asked} == asked
    assert all(package["integrity"].startswith("sha512-") for package in LOCKED.values())
    assert not any("resolved" in package for package in LOCKED.values())
