"""Parties of a federation on hosts of their own, for what happens on the way between them: network namespaces.

A bridge on this machine stands for the building's switch; each host is a namespace with a cable to it. A cable that is
pulled carries nothing and tells nobody: no FIN and no RST goes out of a host, whatever becomes of its processes. Needs
root and iproute2; everything that was made is removed at the end.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Self


class NamespacesMissingError(Exception):
    """This machine does not let us make network namespaces; the text says why."""


class Switch:
    """A bridge with an address of this machine, and hosts that are plugged into it.

    Attributes:
        address: of this machine, as the hosts see it.
    """

    def __init__(self) -> None:
        number = os.getpid() % 250
        self.address = f"10.203.{number}.1"
        self._subnet = f"10.203.{number}"
        self._bridge = f"fed{os.getpid()}"
        self._hosts: list[str] = []

    def __enter__(self) -> Self:
        if os.geteuid() != 0 or shutil.which("ip") is None:
            raise NamespacesMissingError("network namespaces need root and Debian's iproute2")
        try:
            _ip("link", "add", self._bridge, "type", "bridge")
        except subprocess.CalledProcessError as error:
            raise NamespacesMissingError(f"cannot make a bridge: {error.stderr.strip()}") from error
        try:
            _ip("address", "add", f"{self.address}/24", "dev", self._bridge)
            _ip("link", "set", self._bridge, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for host in self._hosts:
            subprocess.run(["ip", "netns", "delete", self._name(host)], capture_output=True, check=False)
        subprocess.run(["ip", "link", "delete", self._bridge], capture_output=True, check=False)

    def add(self, host: str) -> None:
        """A host with a cable to the switch; the same address again for one that has vanished."""
        if host not in self._hosts:
            self._hosts.append(host)
        namespace, outside = self._name(host), self._cable(host)
        inside = ("-n", namespace)
        _ip("netns", "add", namespace)
        _ip("link", "add", outside, "type", "veth", "peer", "name", "cable", "netns", namespace)
        _ip("link", "set", outside, "master", self._bridge, "up")
        _ip(*inside, "address", "add", f"{self._address(host)}/24", "dev", "cable")
        _ip(*inside, "link", "set", "cable", "up")
        _ip(*inside, "link", "set", "lo", "up")

    def on(self, host: str, command: Sequence[str]) -> list[str]:
        """A command that runs on that host, as the same process."""
        return ["ip", "netns", "exec", self._name(host), *command]

    def cut(self, host: str) -> None:
        """Pull its cable."""
        _ip("link", "set", self._cable(host), "down")

    def has_heard_all(self, host: str) -> bool:
        """True when it has acknowledged every byte that this machine has sent to it: nothing will be sent again."""
        shown = subprocess.run(
            ["ss", "-Htn", "dst", self._address(host)], capture_output=True, text=True, check=True
        ).stdout
        return all(line.split()[2] == "0" for line in shown.splitlines())  # Send-Q

    def heal(self, host: str) -> None:
        """Put its cable back."""
        _ip("link", "set", self._cable(host), "up")

    def remove(self, host: str) -> None:
        """It is gone, with all that its kernel knew of connections; its processes must have ended."""
        self.cut(host)
        _ip("netns", "delete", self._name(host))
        _ip("link", "delete", self._cable(host))

    def _address(self, host: str) -> str:
        return f"{self._subnet}.{self._hosts.index(host) + 2}"

    def _name(self, host: str) -> str:
        return f"{self._bridge}-{host}"

    def _cable(self, host: str) -> str:
        return f"{self._bridge}c{self._hosts.index(host)}"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True)
