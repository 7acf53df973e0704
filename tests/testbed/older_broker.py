"""A Mosquitto that is somebody's before the federation comes: with a message in its database, and open on loopback.

The federation's broker takes its place, and gives it back when it goes.
"""

from tests.testbed.bed import Bed

TOPIC = "house/garden/light"
MESSAGE = "left on by somebody"

_ASKING_S = 2


def install_older_broker(bed: Bed, host: str) -> None:
    """Install Debian's Mosquitto as it comes and leave a retained message in it, saved to its database."""
    persistent = "grep -qx 'persistence true' /etc/mosquitto/mosquitto.conf"
    bed.on(host, f"apt-get install --yes --quiet mosquitto mosquitto-clients && {persistent}")
    bed.on(host, f"mosquitto_pub --topic {TOPIC} --message '{MESSAGE}' --retain --qos 1 && systemctl restart mosquitto")


def message_of_older_broker(bed: Bed, host: str) -> str:
    """What its topic has for whoever asks on the host; empty without a broker there."""
    return bed.on(host, f"mosquitto_sub --topic {TOPIC} -C 1 -W {_ASKING_S} || true").strip()
