"""What one test bed is called on this machine, and the addresses inside it.

Two test beds may be up at once, so every name that the machine shares (network namespace, control group, folder,
container) carries an identity. Addresses need none: each test bed has a network of its own.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The checkout."""

IDENTITY_VARIABLE = "TESTBED_NAME"
CACHE_VARIABLE = "TESTBED_CACHE"

SERVER = "server"
PIS = ("pi1", "pi2", "pi3", "pi4", "pi5")
HOSTS = (SERVER, *PIS)

CONTROLLER_ADDRESS = "10.77.0.1"
PREFIX_LENGTH = 24
BRIDGE = "bridge0"
USER = "pi"

# vb-IDENTITY-server has to fit into the 15 characters of an interface's name.
_MOST_CHARACTERS = 5


class TestbedError(Exception):
    """The test bed cannot do what was asked; the text says why and what to do."""

    __test__ = False  # pytest takes the name for a test's


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one test bed.

    Attributes:
        identity: a few letters or digits that no other test bed on this machine has.
    """

    identity: str

    def __post_init__(self) -> None:
        if not (self.identity.isalnum() and self.identity.isascii() and len(self.identity) <= _MOST_CHARACTERS):
            raise TestbedError(
                f"{IDENTITY_VARIABLE}={self.identity!r}: expected 1 to {_MOST_CHARACTERS} letters and digits"
            )

    @property
    def namespace(self) -> str:
        """The network namespace that holds the bridge and the controller's side."""
        return f"testbed-{self.identity}"

    @property
    def namespace_file(self) -> Path:
        """For nsenter. `ip netns exec` would mount a fresh /sys, in which systemd-nspawn finds no control groups."""
        return Path("/run/netns") / self.namespace

    @property
    def folder(self) -> Path:
        """Everything that is gone with the test bed: overlays, keys, inventory, consoles."""
        return Path("/run/federation-testbed") / self.identity

    @property
    def lock_file(self) -> Path:
        """Held while hosts go up or down; outlives the folder, and so lies in the cache."""
        return cache_folder() / f"{self.identity}.lock"

    def machine(self, host: str) -> str:
        """The container's name; its interface on the bridge is `interface`."""
        return f"{self.identity}-{host}"

    def interface(self, host: str) -> str:
        """The bridge's end of a host's network cable, as systemd-nspawn names it."""
        return f"vb-{self.machine(host)}"

    def on_controller(self, *command: str) -> list[str]:
        """The command, run where the operator sits: in the test bed's network, outside the hosts."""
        return ["nsenter", f"--net={self.namespace_file}", *command]


def names(purpose: str = "") -> Names:
    """This checkout's test bed, or the one that TESTBED_NAME says.

    Args:
        purpose: has a test bed of its own in the checkout; none is the one that a person plays with.
    """
    given = os.environ.get(IDENTITY_VARIABLE, "") if not purpose else ""
    return Names(given or hashlib.sha256(f"{ROOT}{purpose}".encode()).hexdigest()[:4])


def address(host: str) -> str:
    """A host's address: the server has .10, pi1 has .11, and so on."""
    return f"10.77.0.{10 + HOSTS.index(host)}"


def cache_folder() -> Path:
    """What is expensive to make and outlives test beds; several of them share it."""
    given = os.environ.get(CACHE_VARIABLE)
    folder = Path(given) if given else Path.home() / ".cache" / "federation" / "testbed"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
