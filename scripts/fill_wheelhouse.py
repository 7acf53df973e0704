"""Finds and downloads, as wheels, everything that a Pi or a server installs. Called by scripts/wheelhouse.

pip evaluates the conditions of requirements for the machine that it runs on, and a Pi is another one. So uv's resolver
is asked, which takes the target's platform and Python; pip then downloads exactly what it found, without resolving.
"""

import argparse
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version
from uv import find_uv_bin

ROOT = Path(__file__).parents[1]
ARCHITECTURES = ("aarch64", "x86_64")
PYTHONS = ("3.11", "3.13")
EXTRAS = ("agent", "coordinator")
# Debian 12 has glibc 2.36; wheels for older ones are as good.
GLIBC_MINORS = range(36, 16, -1)
CUDA = re.compile(r"^(nvidia-|cuda-|triton)")
MB = 1e6


class WheelhouseError(Exception):
    """The wheelhouse cannot be filled; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of host: 64-bit Raspberry Pi OS is aarch64 with Python 3.11 (Debian 12) or 3.13 (Debian 13)."""

    architecture: str
    python: str

    @property
    def version(self) -> tuple[int, int]:
        """Of Python, as numbers."""
        major, minor = self.python.split(".")
        return int(major), int(minor)

    @property
    def platforms(self) -> list[str]:
        """The wheel platforms that it takes, the newest first."""
        names = [f"manylinux_2_{minor}_{self.architecture}" for minor in GLIBC_MINORS]
        return [*names, f"manylinux2014_{self.architecture}"]


def requirements(extras: Sequence[str]) -> list[str]:
    """What pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed: list[str] = list(project["dependencies"])
    for extra in extras:
        listed += project["optional-dependencies"][extra]
    return listed


def resolve(target: Target, extras: Sequence[str]) -> list[str]:
    """Every package with its version, such as `numpy==2.4.0`, of which each has a wheel for the target.

    Raises:
        WheelhouseError: one has none, the index cannot be reached, or CUDA would come along.
    """
    command = [find_uv_bin(), "pip", "compile", "-", "--no-config", "--no-header", "--no-annotate"]
    command += ["--only-binary", ":all:", "--python-platform", target.platforms[0], "--python-version", target.python]
    command += ["--python", sys.executable, "--no-python-downloads"]
    for folder in os.environ.get("PIP_FIND_LINKS", "").split():
        command += ["--find-links", folder]
    for index in os.environ.get("PIP_EXTRA_INDEX_URL", "").split():
        command += ["--extra-index-url", index]
    text = "\n".join(requirements(extras))
    found = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
    if found.returncode != 0:
        raise WheelhouseError(
            f"nothing fits {target.architecture} with Python {target.python}:\n{found.stderr.strip()}"
        )
    pins = found.stdout.split()
    cuda = [pin for pin in pins if CUDA.match(pin)]
    if cuda:
        raise WheelhouseError(
            f"PyTorch for {target.architecture} with Python {target.python} brings gigabytes of CUDA "
            f"({', '.join(cuda)}): set PIP_EXTRA_INDEX_URL to PyTorch's CPU index (pytorch.org, Get started, CPU)"
        )
    return pins


def download(target: Target, pins: Sequence[str], folder: Path) -> None:
    """Fetch the wheels of these packages that the target takes.

    Raises:
        WheelhouseError: pip could not; the text says why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tag = f"cp{target.python.replace('.', '')}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", target.python]
    for abi in (tag, "abi3", "none"):
        command += ["--abi", abi]
    for platform in target.platforms:
        command += ["--platform", platform]
    # What an offline control machine builds the project's own wheel with.
    done = subprocess.run(
        [*command, "--dest", str(folder), *pins, "setuptools>=77"], text=True, capture_output=True, check=False
    )
    if done.returncode != 0:
        raise WheelhouseError(f"pip could not download them:\n{done.stderr.strip()[-2000:]}")


def wheel_of(pin: str, target: Target, folder: Path) -> Path:
    """The wheel of a package in the folder.

    Raises:
        WheelhouseError: it is not there.
    """
    name, _, version = pin.partition("==")
    wanted = (canonicalize_name(name), Version(version))
    taken = frozenset((*cpython_tags(target.version, None, target.platforms), *compatible_tags(target.version)))
    for path in sorted(folder.glob("*.whl")):
        found_name, found_version, _build, tags = parse_wheel_filename(path.name)
        if (found_name, found_version) == wanted and tags & taken:
            return path
    raise WheelhouseError(f"{folder} holds no wheel of {pin} for Python {target.python}")


def show(target: Target, pins: Sequence[str], folder: Path | None) -> None:
    """One line per package: what a host of this kind would install."""
    print(f"\n{target.architecture}, Python {target.python}: {len(pins)} packages, a wheel of each")
    total = 0
    for pin in pins:
        if folder is None:
            print(f"  {pin}")
            continue
        wheel = wheel_of(pin, target, folder)
        total += wheel.stat().st_size
        print(f"  {pin:<32} {wheel.stat().st_size / MB:7.1f} MB  {wheel.name}")
    if folder is not None:
        print(f"  together {total / MB:.0f} MB, in {folder}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill the wheelhouse, or only say what would be in it."""
    parser = argparse.ArgumentParser(prog="scripts/wheelhouse", description=__doc__.partition("\n")[0])
    parser.add_argument("architecture", choices=ARCHITECTURES, help="aarch64: a Pi; x86_64: a PC")
    parser.add_argument("--out", type=Path, default=Path("wheelhouse"), help="a folder; ARCHITECTURE is made below it")
    parser.add_argument("--python", action="append", choices=PYTHONS, help="only this one; may be repeated")
    parser.add_argument("--extra", action="append", choices=EXTRAS, help="only for this part; may be repeated")
    parser.add_argument("--dry-run", action="store_true", help="show what would be downloaded")
    options = parser.parse_args(arguments)
    folder = None if options.dry_run else options.out / options.architecture
    try:
        for python in options.python or PYTHONS:
            target = Target(options.architecture, python)
            pins = resolve(target, options.extra or EXTRAS)
            if folder is not None:
                download(target, pins, folder)
            show(target, pins, folder)
    except WheelhouseError as error:
        print(f"wheelhouse: {error}", file=sys.stderr)
        return 1
    if folder is not None:
        print(f"\nName it to the playbook:  release_wheelhouse: {options.out.resolve()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
