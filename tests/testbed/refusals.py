"""Attempts to get into the federation that must not succeed, and what the broker says of them.

The attempts come from the operator's place in the network, with Mosquitto's own programs.
"""

import subprocess

from tests.testbed.federation import BROKER_PORT, Federation, wait_until
from tests.testbed.names import SERVER, address

_LIMIT_S = 60.0


def publish(federation: Federation, topic: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Try to publish with QoS 1, over MQTT 5."""
    message = ("--topic", topic, "--message", "forged", "--qos", "1", "--protocol-version", "mqttv5", "--debug")
    target = ("--host", address(SERVER), "--port", str(BROKER_PORT))
    command = federation.bed.names.on_controller("mosquitto_pub", *target, *message, *options)
    return subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)


def identity(federation: Federation, name: str) -> tuple[str, ...]:
    """Options for one of the certificates that the playbook has issued."""
    path = federation.playbooks.secrets / "certificates" / name
    return (*authority_option(federation), "--cert", f"{path}.crt", "--key", f"{path}.key")


def authority_option(federation: Federation) -> tuple[str, str]:
    """The option for the federation's authority."""
    return "--cafile", str(federation.playbooks.secrets / "authority" / "ca.crt")


def wait_for_broker_to_say(federation: Federation, before: str, *words: str) -> None:
    """Wait until the broker has said all these words in one line since."""

    def said() -> bool:
        new = federation.broker_log().removeprefix(before).splitlines()
        return any(all(word in line for word in words) for line in new)

    wait_until(said, f"a line with {words} in the broker's log", limit_s=_LIMIT_S)
