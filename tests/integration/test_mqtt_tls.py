"""The transport over TLS: packets of any size, and a clear word for every way in which it can be refused."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mosquitto.broker import PrivateBroker
from mosquitto.render import TlsListener
from schemas.errors import ConfigError
from schemas.topics import Kind
from tests.integration.certificates import Authority, Identity
from tests.integration.mqtt_party import Party, agent_session, coordinator_session, topic
from transport.address import BrokerAddress, TlsFiles
from transport.mqtt import MqttTransport
from transport.ports import Message

MIB = 1024 * 1024


@dataclass(frozen=True)
class Site:
    """A broker with certificates, the authority that signed them, and one that did not."""

    broker: PrivateBroker
    authority: Authority
    stranger: Authority
    revoked: Identity

    def address(self, tls: TlsFiles, port: int = 0, host: str = "127.0.0.1") -> BrokerAddress:
        return BrokerAddress(host, port or self.broker.tls_port, tls=tls)

    def files(self, user: str) -> TlsFiles:
        identity = self.authority.issue(user)
        return TlsFiles(self.authority.ca_file, identity.certificate_file, identity.key_file)


@pytest.fixture(scope="module")
def site(mosquitto_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    assert mosquitto_program
    folder = tmp_path_factory.mktemp("tls")
    authority, stranger = Authority(folder / "ours", "ours"), Authority(folder / "theirs", "theirs")
    server, revoked = authority.issue("broker", server=True), authority.issue("pi-9")
    listener = TlsListener(
        port=0,
        ca_file=authority.ca_file,
        certificate_file=server.certificate_file,
        key_file=server.key_file,
        crl_file=authority.revoke(revoked),
    )
    with PrivateBroker(folder / "broker", {"nobody": "unused"}, tls=listener) as broker:
        yield Site(broker, authority, stranger, revoked)


@pytest.fixture
def make(site: Site) -> Iterator[Callable[[BrokerAddress, str], Party]]:
    """Makes parties that are closed afterwards."""
    parties: list[Party] = []

    def make_party(address: BrokerAddress, user: str = "pi-1") -> Party:
        session = coordinator_session() if user == "coordinator" else agent_session(user)
        parties.append(Party(MqttTransport(session, address)))
        return parties[-1]

    yield make_party
    for party in parties:
        party.transport.close()


@pytest.mark.parametrize("size", [1, 16_384, 189_000, 8 * MIB])
def test_packet_of_any_size_goes_through(site: Site, make: Callable[..., Party], size: int) -> None:
    coordinator = make(site.address(site.files("coordinator")), "coordinator").connect()
    agent = make(site.address(site.files("pi-1"))).connect()
    payload = bytes(range(256)) * (size // 256) + bytes(size % 256)

    agent.transport.publish(Message(topic(Kind.UPDATE), payload))
    coordinator.until(lambda: coordinator.received() == [payload], agent)
    coordinator.transport.publish(Message(topic(Kind.AGENT_MODEL), payload))

    agent.until(lambda: agent.received() == [payload], coordinator)


def test_traffic_is_counted_before_encryption(site: Site, make: Callable[..., Party]) -> None:
    agent = make(site.address(site.files("pi-1"))).connect()
    before = agent.transport.traffic.copy()

    agent.transport.publish(Message(topic(Kind.REPORT), bytes(100)))
    agent.until(lambda: agent.transport.traffic.packet_bytes_down > before.packet_bytes_down)

    # Header 1, remaining length 2, topic behind its length, packet id 2, no properties 1, payload; a PUBACK
    # that says that nobody has subscribed.
    assert agent.transport.traffic.since(before).packet_bytes_up == 1 + 2 + 2 + len(topic(Kind.REPORT)) + 2 + 1 + 100
    assert agent.transport.traffic.since(before).packet_bytes_down in (4, 5)


def test_unknown_authority_is_named_as_the_reason(site: Site, make: Callable[..., Party]) -> None:
    party = make(site.address(TlsFiles(site.stranger.ca_file)))

    assert "certificate of" in party.first_reason()
    assert "was not accepted" in party.first_reason()


def test_wrong_host_name_is_named_as_the_reason(site: Site, make: Callable[..., Party]) -> None:
    party = make(site.address(TlsFiles(site.authority.ca_file), host="localhost"))

    assert "certificate is not valid for 'localhost'" in party.first_reason()


def test_missing_client_certificate_is_named_as_the_reason(site: Site, make: Callable[..., Party]) -> None:
    party = make(site.address(TlsFiles(site.authority.ca_file)))

    assert "it asks for a certificate and we have none" in party.first_reason()


def test_certificate_of_another_authority_is_named_as_the_reason(site: Site, make: Callable[..., Party]) -> None:
    identity = site.stranger.issue("pi-1")
    files = TlsFiles(site.authority.ca_file, identity.certificate_file, identity.key_file)

    assert "it does not know the authority of our certificate" in make(site.address(files)).first_reason()


def test_revoked_certificate_is_named_as_the_reason(site: Site, make: Callable[..., Party]) -> None:
    files = TlsFiles(site.authority.ca_file, site.revoked.certificate_file, site.revoked.key_file)

    assert "our certificate has been revoked" in make(site.address(files), "pi-9").first_reason()


def test_plain_listener_is_named_as_the_reason(site: Site, make: Callable[..., Party]) -> None:
    party = make(site.address(site.files("pi-1"), port=site.broker.port))

    assert "TLS with" in party.first_reason()


def test_missing_file_is_named_when_the_transport_is_made(site: Site, tmp_path: Path) -> None:
    missing = tmp_path / "ca.crt"

    with pytest.raises(ConfigError, match=f"TLS file {missing} cannot be used"):
        MqttTransport(agent_session(), site.address(TlsFiles(missing)))


def test_key_of_another_certificate_is_named_when_the_transport_is_made(site: Site) -> None:
    mine, other = site.authority.issue("pi-1"), site.authority.issue("pi-2")
    files = TlsFiles(site.authority.ca_file, mine.certificate_file, other.key_file)

    with pytest.raises(ConfigError, match=r"pi-1\.crt \(with key .*pi-2\.key\) cannot be used"):
        MqttTransport(agent_session(), site.address(files))
