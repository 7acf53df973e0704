"""Python packages for hosts without internet: a wheelhouse, and a folder with PyTorch that hosts may share.

Both come from where this machine's pip gets its packages, are made once and kept in the cache.
"""

import inspect
import platform
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from tests.testbed.cache import Cached
from tests.testbed.names import ROOT
from tests.testbed.programs import run

_PIP = (sys.executable, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check")
_LIMIT_S = 900.0


@dataclass(frozen=True, slots=True)
class Packages:
    """Where they lie on this machine.

    Attributes:
        wheelhouse: a folder for each architecture, with every wheel that agents and coordinator need.
        shared_site: PyTorch and what it needs, installed; hosts that mount it need not install 700 MB each.
    """

    wheelhouse: Path
    shared_site: Path

    @property
    def wheels(self) -> Path:
        """The wheels for this machine's architecture, which is the hosts'."""
        return self.wheelhouse / platform.machine()


def python_packages() -> Packages:
    """The packages; made when they are missing or what we depend on has changed."""
    return _packages(_cached().get())


def are_made() -> bool:
    """True when the packages are there."""
    return _cached().is_made


def _cached() -> Cached:
    ingredients = (_requirements(), sys.version_info[:2], inspect.getsource(_make))
    return Cached("packages", ingredients, "the hosts' wheelhouse", _make)


def _packages(folder: Path) -> Packages:
    return Packages(wheelhouse=folder / "wheelhouse", shared_site=folder / "site")


def _requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return sorted({*project["dependencies"], *extras["agent"], *extras["coordinator"]})


def _make(folder: Path) -> None:
    packages = _packages(folder)
    # As an operator of a site without internet would.
    fill = (sys.executable, str(ROOT / "scripts" / "fill_wheelhouse.py"), platform.machine())
    python = "{}.{}".format(*sys.version_info)
    run(*fill, "--python", python, "--out", str(packages.wheelhouse), limit_s=_LIMIT_S)
    offline = ("--no-index", "--find-links", str(packages.wheels))
    run(*_PIP, "install", *offline, "--target", str(packages.shared_site), "torch", limit_s=_LIMIT_S)
