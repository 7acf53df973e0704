"""Runs the playbook against the test bed, as an operator would: ansible-playbook over SSH, with an inventory.

pi5 installs everything itself from the wheelhouse, which the playbook brings to it: it stands for a real Pi. The other
hosts find PyTorch, 700 MB, lent by this machine, and the wheelhouse as well; the rest they install.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.testbed.bed import Bed
from tests.testbed.golden import SHARED_SITE
from tests.testbed.names import HOSTS, PIS, ROOT, SERVER, USER, address
from tests.testbed.packages import Packages

ALONE = "pi5"
"""The host that is lent nothing."""

WHEELS_ON_HOST = Path("/srv/wheels")
AGENT_DATA = "digits-iid"
"""What rooms hold; comes with scikit-learn, so that it is there on every machine."""


def lent(packages: Packages) -> dict[str, dict[Path, Path]]:
    """What this machine lends each host, for Bed.up."""
    both = {SHARED_SITE: packages.shared_site, WHEELS_ON_HOST: packages.wheels}
    return {host: {} if host == ALONE else dict(both) for host in HOSTS}


class Playbooks:
    """The playbooks of a checkout, and an inventory of the test bed.

    Args:
        bed: whose hosts are provisioned.
        packages: what hosts install.
        checkout: whose playbooks, and whose version of the software.
    """

    def __init__(self, bed: Bed, packages: Packages, checkout: Path = ROOT) -> None:
        self._bed = bed
        self._packages = packages
        self._checkout = checkout
        self.inventory = bed.names.folder / "inventory.yml"

    @property
    def secrets(self) -> Path:
        """Where the playbook keeps the authority, certificates and passwords that it has made."""
        return self.inventory.parent / "secrets"

    def write_inventory(self, more: Mapping[str, Any] | None = None) -> None:
        """Write the inventory, as an operator's: names, addresses, and a trial's data.

        Args:
            more: variables for all hosts.
        """
        every = {
            "ansible_user": USER,
            "ansible_ssh_common_args": f"-F {self._bed.ssh_config}",
            # Two test beds have the same addresses, and must not share connections.
            "ansible_control_path_dir": str(self._bed.names.folder / "connections"),
            # A container's clock is this machine's.
            "time_set_clock": False,
            **(more or {}),
        }
        server: dict[str, Any] = {"hosts": {SERVER: {}}}
        agents = {"hosts": {host: {} for host in PIS}, "vars": {"agent_data": AGENT_DATA}}
        groups = {"broker": server, "coordinator": server, "influxdb": server, "chronograf": server}
        hosts = {host: {"ansible_host": address(host), **self._source_of_packages(host)} for host in HOSTS}
        content = {"all": {"vars": every, "hosts": hosts, "children": {**groups, "edge_agents": agents}}}
        # JSON is YAML.
        self.inventory.write_text(json.dumps(content, indent=2) + "\n")

    def command(self, playbook: str = "site.yml", *options: str) -> list[str]:
        """The command line that runs a playbook from the operator's place in the test bed's network."""
        program = Path(sys.executable).parent / "ansible-playbook"
        path = self._checkout / "ansible" / playbook
        return self._bed.names.on_controller(str(program), "-i", str(self.inventory), str(path), *options)

    def environment(self) -> dict[str, str]:
        """What ansible-playbook needs in its environment."""
        return {**os.environ, "ANSIBLE_CONFIG": str(self._checkout / "ansible" / "ansible.cfg")}

    def run(self, playbook: str = "site.yml", *options: str, limit_s: float = 900.0) -> "Recap":
        """Run a playbook to its end, whatever it gives."""
        done = subprocess.run(
            self.command(playbook, *options),
            env={**self.environment(), "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit_s,
            check=False,
        )
        return Recap(done.returncode, done.stdout)

    def _source_of_packages(self, host: str) -> dict[str, str]:
        if host == ALONE:
            return {"release_wheelhouse": str(self._packages.wheelhouse)}
        return {"release_wheelhouse_on_host": str(WHEELS_ON_HOST)}


class Recap:
    """What a playbook said, and the numbers of its recap.

    Attributes:
        exit_code: of ansible-playbook.
        said: all of its output.
    """

    def __init__(self, exit_code: int, said: str) -> None:
        self.exit_code = exit_code
        self.said = said

    def count(self, what: str) -> dict[str, int]:
        """By host, how many tasks were `changed`, `failed`, `unreachable`, `ok`; empty without a recap."""
        _, _, recap = self.said.partition("PLAY RECAP")
        counts = {}
        for line in recap.splitlines():
            host, separator, numbers = line.partition(" : ")
            if separator:
                counts[host.strip()] = int(dict(pair.split("=") for pair in numbers.split())[what])
        return counts

    @property
    def end(self) -> str:
        """The last part of the output, for a message."""
        return "\n".join(self.said.splitlines()[-80:])


def exec_playbook(playbooks: Playbooks, options: Sequence[str]) -> None:
    """Become ansible-playbook, with the terminal."""
    command = playbooks.command("site.yml", *options)
    os.execvpe(command[0], command, playbooks.environment())  # noqa: S606 (no shell wanted)
