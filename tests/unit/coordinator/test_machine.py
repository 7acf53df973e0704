"""What is said of the machine: enough to judge a result by, nothing that tells whose it is."""

import os
import platform

import pytest

from coordinator.machine import described, environment, hardware


def test_environment_names_every_version_that_a_result_depends_on() -> None:
    found = environment()

    assert found["python"] == platform.python_version()
    assert {"torch", "numpy", "federation", "machine"} <= found.keys()
    assert "unknown" not in found.values()


def test_hardware_says_nothing_about_the_owner() -> None:
    found = hardware()

    assert found.keys() == {"cpu_model", "cores", "memory_gib", "system", "kernel"}
    assert platform.node() not in " ".join(str(value) for value in found.values()).split()


def test_run_keeps_the_number_of_threads_that_is_in_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})

    assert described(threads=8)["hardware"]["threads_in_effect"] == 2
    assert described(threads=1)["hardware"]["threads_in_effect"] == 1
