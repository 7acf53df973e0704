"""A run of real processes that is shipped to a real InfluxDB while it goes on: dashboards and answers are tried on it.

Two devices train, both with the sensor files of a Raspberry Pi (this machine has none), one of them throttled; and
somebody who has a device's password sends an update that cannot be read.
"""

import sys
from pathlib import Path
from typing import NamedTuple

from coordinator.influx import InfluxSettings
from coordinator.run_folder import RunFolder
from mosquitto.broker import PrivateBroker
from schemas.topics import Address, Kind, Topics
from tests.integration.federation import RUN_ID, Federation
from tests.integration.influx_servers import WRITE_TOKEN, InfluxServers
from tests.integration.mqtt_probe import Probe
from tests.secret_files import write_secret

DATABASE = "fl"
"""The name in the dashboards' files."""

ROUNDS = 5

AGENT_ON_A_PI = """
import sys
from pathlib import Path
from edge_agent import sensors
from edge_agent.cli import main

sensors.cpu_temperature_c.__defaults__ = (Path(sys.argv.pop(1)),)
sensors.throttled.__defaults__ = (Path(sys.argv.pop(1)),)
main()
"""


class ShippedRun(NamedTuple):
    """Where the run is, in its folder and on the server."""

    servers: InfluxServers
    database: str
    runs: Path
    run: RunFolder


def drive(servers: InfluxServers, folder: Path) -> ShippedRun:
    """Run it to its end."""
    servers.create_database(DATABASE)
    token = write_secret(folder / "token", WRITE_TOKEN)
    passwords = {user: f"password of {user}" for user in ("coordinator", "room-1", "room-2")}
    section = InfluxSettings(url=servers.url, bucket=DATABASE, token_file=token)
    settings = (
        f"[training]\nlocal_batches = 2\n[rounds]\ncount = {ROUNDS}\nmin_agents = 2\nmin_updates = 2\n"
        'target_accuracy = 0.99\n[data]\ndataset = "digits"\n'
        f'[influx]\nurl = "{section.url}"\nbucket = "{section.bucket}"\ntoken_file = "{token}"\n'
    )
    with PrivateBroker(folder / "broker", passwords) as broker, Federation(folder, broker, 2, settings) as federation:
        for number, (agent_id, agent) in enumerate(federation.agents.items(), 1):
            agent.command = _on_a_pi(agent.command, folder / agent_id, 50_000 + 1_000 * number, throttled=number == 2)
        federation.start()
        log = federation.agents["room-1"].log
        federation.wait_until(lambda: "round_number=1: training" in log(), "room-1 to train", limit_s=180)
        with Probe(broker.port, "room-1", passwords["room-1"], "stranger") as stranger:
            stranger.connect()
            stranger.publish(Topics().build(Address(Kind.UPDATE, "room-1", RUN_ID, 1)), b"no safetensors")
        federation.finish()
        return ShippedRun(servers, DATABASE, federation.runs, RunFolder.open(federation.runs, RUN_ID))


def _on_a_pi(command: list[str], home: Path, millidegrees: int, *, throttled: bool) -> list[str]:
    """The agent's command with its sensors elsewhere; it ends in `run CONFIG` as before."""
    (home / "temp").write_text(f"{millidegrees}\n")
    (home / "get_throttled").write_text("4\n" if throttled else "0\n")
    return [sys.executable, "-c", AGENT_ON_A_PI, str(home / "temp"), str(home / "get_throttled"), *command[3:]]
