"""Builds this checkout's wheel once for every state of its sources, and prints where it is as one JSON object.

The playbook installs what this prints. The release is named after the sources, so that the same checkout never counts
as an upgrade. Standard library only: it runs with the Python that runs Ansible.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
_NOT_PACKAGED = {"__pycache__"}
# 1980, the beginning of time in a ZIP file: the same sources give the same bytes.
_SOURCE_DATE_EPOCH = "315532800"


def release(root: Path) -> str:
    """The version and a digest of everything that is packaged, such as `0.1.0-4c0f1e2a`."""
    digest = hashlib.sha256()
    for path in sources(root):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root)} {len(content)}\n".encode() + content)
    return f"{_project(root)['version']}-{digest.hexdigest()[:8]}"


def sources(root: Path) -> list[Path]:
    """The files that make the wheel, in a fixed order."""
    configuration = tomllib.loads((root / "pyproject.toml").read_text())
    packages = configuration["tool"]["setuptools"]["packages"]["find"]["include"]
    found = [root / "pyproject.toml"]
    for package in sorted(name for name in packages if not name.endswith(".*")):
        files = (path for path in (root / package).rglob("*") if path.is_file())
        found += sorted(path for path in files if not _NOT_PACKAGED & set(path.parts) and path.suffix != ".pyc")
    return found


def build(root: Path, out: Path, wheelhouse: Path | None = None) -> dict[str, object]:
    """The wheel of the sources as they are, below `out` in a folder of its release; built when it is not there.

    Args:
        wheelhouse: holds what pip builds with, instead of the package index.

    Raises:
        SystemExit: pip could not build it; the text says why.
    """
    name = release(root)
    folder = out / name
    built = not list(folder.glob("federation-*.whl"))
    if built:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".building-") as scratch:
            _run_pip(root, Path(scratch), wheelhouse)
            folder.mkdir(exist_ok=True)
            for wheel in Path(scratch).glob("federation-*.whl"):
                wheel.rename(folder / wheel.name)
    (wheel,) = folder.glob("federation-*.whl")
    return {"release": name, "wheel": str(wheel), "built": built}


def _run_pip(root: Path, out: Path, wheelhouse: Path | None) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(root)]
    if _can_build_here(root):
        command.append("--no-build-isolation")
    environment = os.environ | {"SOURCE_DATE_EPOCH": _SOURCE_DATE_EPOCH}
    if wheelhouse is not None:
        environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheelhouse)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"pip could not build the wheel of {root}:\n{done.stderr.strip()[-2000:]}")


def _can_build_here(root: Path) -> bool:
    """True when this Python has the setuptools that is asked for, so that pip need not install it once more."""
    (required,) = tomllib.loads((root / "pyproject.toml").read_text())["build-system"]["requires"]
    oldest = int(required.removeprefix("setuptools>="))
    try:
        return int(metadata.version("setuptools").partition(".")[0]) >= oldest
    except metadata.PackageNotFoundError:
        return False


def _project(root: Path) -> dict[str, str]:
    project: dict[str, str] = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return project


def main(arguments: Sequence[str] | None = None) -> None:
    """Build and print."""
    parser = argparse.ArgumentParser(prog="build_wheel", description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder of wheels; made when missing")
    parser.add_argument("--wheelhouse", type=Path, help="a folder that holds setuptools, where there is no internet")
    options = parser.parse_args(arguments)
    print(json.dumps(build(ROOT, options.out, options.wheelhouse)))


if __name__ == "__main__":
    main()
