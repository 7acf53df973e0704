"""What a result may depend on besides its configuration: the machine that the coordinator runs on, and versions."""

import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from learning.threads import num_cores, usable_threads

PACKAGES = ("federation", "torch", "numpy", "safetensors", "paho-mqtt", "pydantic")


def described(threads: int) -> dict[str, Any]:
    """Both, as a run's folder keeps them, with how many of the `threads` asked for are in effect here."""
    return {"environment": environment(), "hardware": hardware() | {"threads_in_effect": usable_threads(threads)}}


def environment() -> dict[str, str]:
    """Versions, and the kind of processor, by which training's last bits differ."""
    versions = {name: _version(name) for name in PACKAGES}
    return {"python": platform.python_version(), "machine": platform.machine(), **versions}


def hardware() -> dict[str, str | int | float]:
    """The machine in a few words and numbers; nothing that tells where or whose it is."""
    return {
        "cpu_model": _cpu_model(),
        "cores": num_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": _system(),
        "kernel": platform.release(),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _cpu_model() -> str:
    text = Path("/proc/cpuinfo").read_text()
    # A Pi names itself under Model; x86 under model name.
    found = re.search(r"^Model\s*:\s*(.+)$", text, re.MULTILINE) or re.search(
        r"^model name\s*:\s*(.+)$", text, re.MULTILINE
    )
    return found[1].strip() if found else platform.processor() or platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()
