"""The network between hosts is cut in the middle of a round and healed; a host or the broker vanishes while it is.

Nobody is told: packets are lost, connections stay half open. The run ends as if nothing had happened.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mosquitto.broker import PrivateBroker
from mosquitto.render import TlsListener
from tests.integration.certificates import Authority, Identity
from tests.integration.federation import Federation
from tests.integration.namespaces import NamespacesMissingError, Switch
from tests.integration.undisturbed import models_when_undisturbed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

AGENTS = 2
ROUNDS = 3
FAR = "room-1"
"""The agent whose host's cable is pulled."""

SETTINGS = f"""
[training]
local_batches = 200
batch_size = 16
strategy = "scaffold"
learning_rate = 0.05
[rounds]
count = {ROUNDS}
min_agents = {AGENTS}
min_updates = {AGENTS}
deadline_s = 200
patience_s = 100
[data]
dataset = "none"
"""


class HostedFederation(Federation):
    """Two agents and a coordinator, each on a host of its own; the broker is on this one.

    Args:
        identities: of the agents and the coordinator.
    """

    def __init__(
        self, folder: Path, broker: PrivateBroker, switch: Switch, authority: Authority, identities: dict[str, Identity]
    ) -> None:
        self.switch, self._authority, self._identities = switch, authority, identities
        super().__init__(folder, broker, AGENTS, SETTINGS)
        for process in (*self.agents.values(), self.coordinator):
            switch.add(process.name)
            process.command = switch.on(process.name, process.command)

    def wait_until_given_up(self, client: str) -> None:
        """Wait until the broker has given up a connection on which nothing came for too long."""
        self.wait_until(lambda: f"Client {client} has exceeded timeout" in self.broker.log(), f"{client} given up")

    def _broker_lines(self, user: str) -> str:
        identity = self._identities[user]
        lines = {
            "host": self.switch.address,
            "port": self.broker.tls_port,
            "ca": str(self._authority.ca_file),
            "cert": str(identity.certificate_file),
            "key": str(identity.key_file),
            "keep_alive_s": 5,
        }
        return "\n".join(["[broker]", *(f"{key} = {json.dumps(value)}" for key, value in lines.items())]) + "\n"


@pytest.fixture
def switch() -> Iterator[Switch]:
    """A network of our own. Where there can be none the test is skipped, but in CI it fails."""
    try:
        with Switch() as switch:
            yield switch
    except NamespacesMissingError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture
def federation(mosquitto_program: str, tmp_path: Path, switch: Switch) -> Iterator[HostedFederation]:
    """Not started."""
    assert mosquitto_program
    authority = Authority(tmp_path / "authority", "test authority")
    server = authority.issue("broker", server=True, address=switch.address)
    identities = {name: authority.issue(name) for name in ("coordinator", "room-1", "room-2")}
    listener = TlsListener(
        port=0,
        address=switch.address,
        ca_file=authority.ca_file,
        certificate_file=server.certificate_file,
        key_file=server.key_file,
    )
    with (
        PrivateBroker(tmp_path / "broker", {"nobody": "unused"}, tls=listener) as broker,
        HostedFederation(tmp_path, broker, switch, authority, identities) as federation,
    ):
        yield federation


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The digests of the global model after each round when nothing happens."""
    return models_when_undisturbed(tmp_path_factory.mktemp("undisturbed"), SETTINGS, AGENTS)


def check_same_as_undisturbed(federation: HostedFederation, undisturbed: list[str]) -> None:
    rounds = federation.finish()
    assert [(record.round_number, record.attempt) for record in rounds] == [(n, 1) for n in range(1, ROUNDS + 1)]
    assert [record.model_sha256 for record in rounds] == undisturbed


def test_round_waits_for_an_agent_whose_network_is_cut_and_ends_the_same_when_it_is_healed(
    federation: HostedFederation, undisturbed: list[str]
) -> None:
    federation.start()
    federation.wait_until_training(FAR, 2)
    federation.switch.cut(FAR)
    federation.wait_until_given_up(FAR)
    federation.wait_until(lambda: bool(federation.events("agent-offline")), "the coordinator to notice")

    federation.switch.heal(FAR)

    check_same_as_undisturbed(federation, undisturbed)
    for number in range(1, ROUNDS + 1):
        assert federation.agents[FAR].log().count(f"round_number={number}: training") == 1


def test_round_goes_on_where_it_was_when_the_coordinators_network_is_cut_and_healed(
    federation: HostedFederation, undisturbed: list[str]
) -> None:
    federation.start()
    federation.wait_until_training(FAR, 2)
    federation.switch.cut("coordinator")
    federation.wait_until(lambda: bool(federation.events("broker-lost")), "the coordinator to miss the broker")
    federation.wait_until_given_up("coordinator")

    federation.switch.heal("coordinator")

    check_same_as_undisturbed(federation, undisturbed)
    for agent in federation.agents.values():
        assert agent.log().count("round_number=2: training") == 1


def test_agent_takes_its_place_again_when_its_host_vanished_without_a_word(
    federation: HostedFederation, undisturbed: list[str]
) -> None:
    config = federation.folder / FAR / "agent.toml"
    config.write_text(config.read_text().replace("keep_alive_s = 5", "keep_alive_s = 200"))
    federation.start()
    federation.wait_until_training(FAR, 2)
    # What the broker would send again would be answered by the new host, which knows of no connection.
    federation.wait_until(lambda: federation.switch.has_heard_all(FAR), "the broker's last bytes to be acknowledged")
    federation.switch.cut(FAR)
    federation.agents[FAR].kill()
    federation.switch.remove(FAR)

    federation.switch.add(FAR)
    federation.agents[FAR].start()

    check_same_as_undisturbed(federation, undisturbed)
    # The broker took the old connection for a living one when the new one came.
    assert f"Client {FAR} already connected, closing old connection" in federation.broker.log()


def test_everybody_finds_the_broker_again_when_it_vanished_without_a_word(
    federation: HostedFederation, undisturbed: list[str]
) -> None:
    federation.start()
    federation.wait_until_training(FAR, 2)
    hosts = (FAR, "coordinator")
    for host in hosts:
        federation.switch.cut(host)
    federation.broker.kill()
    federation.broker.start()

    # Their connections are open, and at the other end is nobody who knows of them.
    for host in hosts:
        federation.switch.heal(host)

    check_same_as_undisturbed(federation, undisturbed)
