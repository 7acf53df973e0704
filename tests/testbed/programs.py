"""Runs the system's programs and says what they said when one fails."""

import shutil
import subprocess
from collections.abc import Sequence

from tests.testbed.names import TestbedError

LIMIT_S = 120.0
"""For a program that should take a moment; the machine may be busy."""

PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "apt-ftparchive": "apt-utils",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "tc": "iproute2",
    "iptables": "iptables",
    "ethtool": "ethtool",
    "ssh": "openssh-client",
}
"""What the test bed runs, and the Debian package that has it."""


def missing_packages() -> list[str]:
    """Debian packages to install before a test bed can go up."""
    return sorted({package for program, package in PROGRAMS.items() if find(program) is None})


def find(program: str) -> str | None:
    """Path of a program; Debian keeps some where a user's PATH does not look."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")


def run(
    *command: str, limit_s: float = LIMIT_S, stdin: str | None = None, accepted: Sequence[int] = (0,)
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end.

    Raises:
        TestbedError: it took longer than `limit_s`, or its exit code is not one of `accepted`; with its last words.
    """
    source = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
    try:
        done = subprocess.run(command, **source, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise TestbedError(f"took more than {limit_s:.0f} s: {' '.join(command)}") from error
    if done.returncode not in accepted:
        said = (done.stderr or done.stdout).strip().splitlines()[-15:]
        raise TestbedError("\n".join([f"failed with {done.returncode}: {' '.join(command)}", *said]))
    return done
