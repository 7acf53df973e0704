"""What a Pi would install: the agent's dependencies resolved for aarch64, each as a wheel, none of them CUDA.

pip evaluates markers for the machine it runs on, so uv's resolver with a target platform does this. It asks the
package index; without a network the tests are skipped, but in CI they fail.
"""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.version import Version
from uv import find_uv_bin

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
# 64-bit Raspberry Pi OS: Debian 12 has Python 3.11 and glibc 2.36, Debian 13 has 3.13 and 2.41.
PLATFORM = "aarch64-manylinux_2_36"
PYTHONS = ("3.11", "3.13")
FIRST_TORCH_WITH_CUDA = Version("2.11")
CUDA = re.compile(r"^(nvidia-|cuda-|triton)")
OFFLINE = re.compile(r"dns error|error sending request|failed to fetch|could not connect", re.IGNORECASE)

pytestmark = pytest.mark.timeout(300)


def resolve(requirements: list[str], python: str) -> subprocess.CompletedProcess[str]:
    """Resolve for a Pi, wheels only; skips, or fails in CI, when the index cannot be reached."""
    command = [find_uv_bin(), "pip", "compile", "-", "--no-config", "--no-header", "--no-annotate"]
    command += ["--only-binary", ":all:", "--python-platform", PLATFORM, "--python-version", python]
    # Markers and wheel tags are the target's; without an interpreter named uv would download that Python.
    command += ["--python", sys.executable, "--no-python-downloads"]
    found = subprocess.run(command, input="\n".join(requirements), text=True, capture_output=True, check=False)
    if found.returncode != 0 and OFFLINE.search(found.stderr):
        message = f"NOT CHECKED what a Pi would install: the package index does not answer: {found.stderr}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


def versions(requirements: list[str], python: str) -> dict[str, Version]:
    """What would be installed, by name."""
    found = resolve(requirements, python)
    assert found.returncode == 0, found.stderr
    return {name: Version(version) for name, version in (line.split("==") for line in found.stdout.split())}


def agent_requirements() -> list[str]:
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["agent"]]


@pytest.mark.parametrize("python", PYTHONS)
def test_agent_installs_without_cuda_when_on_a_pi(python: str) -> None:
    installed = versions(agent_requirements(), python)

    assert {"torch", "numpy", "paho-mqtt", "safetensors", "pydantic", "typer"} <= installed.keys()
    assert [name for name in installed if CUDA.match(name)] == []
    assert installed["torch"] < FIRST_TORCH_WITH_CUDA


@pytest.mark.parametrize("python", PYTHONS)
def test_resolution_finds_cuda_when_the_torch_range_is_open(python: str) -> None:
    requirements = [line for line in agent_requirements() if not line.startswith("torch")]

    installed = versions([*requirements, "torch>=2.6,<2.14"], python)

    assert [name for name in installed if CUDA.match(name)] != []
    assert installed["torch"] >= FIRST_TORCH_WITH_CUDA


def test_resolution_fails_when_a_package_has_no_wheel_for_a_pi() -> None:
    found = resolve(["intel-openmp==2024.2.1"], PYTHONS[0])

    assert found.returncode != 0
    assert "has no wheels" in found.stderr
