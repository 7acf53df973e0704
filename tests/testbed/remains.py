"""Looks for what a test bed has left on this machine."""

import os
from pathlib import Path

from tests.testbed.cgroups import MOUNT
from tests.testbed.names import Names
from tests.testbed.programs import run


def remains(names: Names) -> list[str]:
    """Every interface, mount, namespace, control group, folder and process that still bears the test bed's name."""
    links = [line for line in run("ip", "-brief", "link").stdout.splitlines() if names.identity in line]
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if _bears(names, line)]
    folders = [names.namespace_file, names.folder, *MOUNT.glob(f"*/{names.namespace}"), MOUNT / names.namespace]
    propagated = Path("/run/systemd/nspawn/propagate").glob(f"{names.identity}-*")
    return [*links, *mounts, *(str(path) for path in (*folders, *propagated) if path.exists()), *_processes(names)]


def _processes(names: Names) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended
        if process.name != str(os.getpid()) and _bears(names, command):
            found.append(f"process {process.name}: {command[:200]}")
    return found


def _bears(names: Names, text: str) -> bool:
    return names.namespace in text or str(names.folder) in text
