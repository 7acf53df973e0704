"""The machine that a benchmark ran on, for every result to state: numbers of different machines do not compare."""

import os
import re
import subprocess
from typing import Any

from coordinator.machine import environment, hardware
from edge_agent.sensors import cpu_temperature_c, throttled
from mosquitto.broker import BrokerMissingError, find_mosquitto


def describe_machine() -> dict[str, Any]:
    """CPU, cores, memory, load at this moment, versions; on a Raspberry Pi also temperature and throttling."""
    return {
        **hardware(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "versions": environment() | {"mosquitto": _mosquitto_version()},
        "cpu_temperature_c": cpu_temperature_c(),
        "throttled": throttled(),
    }


def in_a_sentence(machine: dict[str, Any]) -> str:
    """The machine in one line."""
    load = ", ".join(f"{value:.2f}" for value in machine["load_average"])
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if name != "machine")
    heat = "" if machine["cpu_temperature_c"] is None else f", {machine['cpu_temperature_c']:.0f} degrees C"
    slow = ", THROTTLED" if machine["throttled"] else ""
    cores = f"{machine['cores']} cores, {machine['memory_gib']} GiB"
    return f"{machine['cpu_model']}, {cores}{heat}{slow}, load at start {load}; {versions}"


def _mosquitto_version() -> str:
    try:
        printed = subprocess.run([find_mosquitto(), "-h"], capture_output=True, text=True, check=False).stdout
    except BrokerMissingError:
        return "not installed"
    found = re.search(r"version (\S+)", printed)
    return found[1] if found else "unknown"
