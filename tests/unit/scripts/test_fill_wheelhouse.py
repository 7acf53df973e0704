"""Which wheel a host takes; that each exists is asked of the index by tests/unit/test_dependencies.py."""

from pathlib import Path

import pytest

from scripts.fill_wheelhouse import Target, WheelhouseError, requirements, wheel_of

PI = Target("aarch64", "3.11")


def test_wheel_is_the_hosts_when_others_lie_beside_it(tmp_path: Path) -> None:
    for name in (
        "torch-2.10.0-cp311-cp311-manylinux_2_28_aarch64.whl",
        "torch-2.10.0-cp313-cp313-manylinux_2_28_aarch64.whl",
        "torch-2.10.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        "torch-2.9.1-cp311-cp311-manylinux_2_28_aarch64.whl",
    ):
        (tmp_path / name).touch()

    assert wheel_of("torch==2.10.0", PI, tmp_path).name == "torch-2.10.0-cp311-cp311-manylinux_2_28_aarch64.whl"
    assert "cp313" in wheel_of("torch==2.10.0", Target("aarch64", "3.13"), tmp_path).name


@pytest.mark.parametrize(
    "name",
    [
        "safetensors-0.8.0-cp310-abi3-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
        "safetensors-0.8.0-py3-none-any.whl",
    ],
)
def test_wheel_of_an_older_python_is_taken_when_it_fits(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()

    assert wheel_of("safetensors==0.8.0", PI, tmp_path).name == name


@pytest.mark.parametrize(
    "name",
    [
        "numpy-2.4.0-cp311-cp311-manylinux_2_39_aarch64.whl",
        "numpy-2.4.0-cp311-cp311-musllinux_1_2_aarch64.whl",
        "numpy-2.4.0-cp312-cp312-manylinux_2_28_aarch64.whl",
    ],
)
def test_wheel_is_missed_when_the_host_cannot_use_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()

    with pytest.raises(WheelhouseError, match=r"no wheel of numpy==2\.4\.0 for Python 3\.11"):
        wheel_of("numpy==2.4.0", PI, tmp_path)


def test_requirements_are_the_projects_when_read() -> None:
    agent, both = requirements(["agent"]), requirements(["agent", "coordinator"])

    assert any(line.startswith("torch") for line in agent)
    assert set(agent) < set(both)
