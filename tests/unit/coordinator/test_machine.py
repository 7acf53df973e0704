"""What is said of the machine: enough to judge a result by, nothing that tells whose it is."""

import platform

from coordinator.machine import environment, hardware


def test_environment_names_every_version_that_a_result_depends_on() -> None:
    found = environment()

    assert found["python"] == platform.python_version()
    assert {"torch", "numpy", "federation", "machine"} <= found.keys()
    assert "unknown" not in found.values()


def test_hardware_says_nothing_about_the_owner() -> None:
    found = hardware()

    assert found.keys() == {"cpu_model", "cores", "memory_gib", "system", "kernel"}
    assert platform.node() not in " ".join(str(value) for value in found.values()).split()
