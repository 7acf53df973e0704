"""The TLS listener: who gets in, under which name, and who does not."""

import os
import signal
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mosquitto.broker import PrivateBroker
from mosquitto.render import TlsListener, render_acl
from schemas.topics import Address, Kind, Topics
from tests.integration.certificates import Authority
from tests.integration.mqtt_probe import Probe

TOPICS = Topics()
# OpenSSL's wording differs between versions and by which side notices first.
REFUSALS = (ssl.SSLError, ConnectionError)


@dataclass(frozen=True, slots=True)
class Site:
    """A broker with certificates, and the authority that signed them."""

    broker: PrivateBroker
    authority: Authority

    def connect(self, user: str, client_id: str = "") -> Probe:
        context = self.authority.client_context(self.authority.issue(user))
        return Probe(self.broker.tls_port, client_id=client_id, tls=context)


@pytest.fixture(scope="module")
def site(mosquitto_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    assert mosquitto_program
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder / "authority", "test authority")
    server = authority.issue("broker", server=True)
    listener = TlsListener(
        port=0,
        ca_file=authority.ca_file,
        certificate_file=server.certificate_file,
        key_file=server.key_file,
        crl_file=authority.revoke(authority.issue("pi-9")),
    )
    with PrivateBroker(folder / "broker", {"nobody": "unused"}, tls=listener) as broker:
        yield Site(broker, authority)


def test_certificates_common_name_is_the_user_when_publishing(site: Site) -> None:
    with site.connect("coordinator") as coordinator, site.connect("pi-1") as agent:
        coordinator.subscribe(*TOPICS.coordinator_filters())

        assert agent.publish(TOPICS.build(Address(Kind.UPDATE, "pi-2", "run-1", 1))) == "Not authorized"
        assert agent.publish(TOPICS.build(Address(Kind.UPDATE, "pi-1", "run-1", 1))) == "Success"

        assert coordinator.next_message()[0] == TOPICS.build(Address(Kind.UPDATE, "pi-1", "run-1", 1))


def test_user_name_in_the_packet_is_ignored_when_the_certificate_says_otherwise(site: Site) -> None:
    context = site.authority.client_context(site.authority.issue("pi-1"))
    with Probe(site.broker.tls_port, "coordinator", "whatever", tls=context) as agent:
        assert agent.publish(TOPICS.build(Address(Kind.MODEL, "", "run-1", 1))) == "Not authorized"


def test_connection_is_refused_when_there_is_no_certificate(site: Site) -> None:
    assert is_refused(Probe(site.broker.tls_port, "pi-1", "x", tls=site.authority.client_context(None)))


def test_connection_is_refused_when_the_certificate_is_of_a_foreign_authority(site: Site, tmp_path: Path) -> None:
    forged = Authority(tmp_path / "foreign", "test authority").issue("pi-1")
    assert is_refused(Probe(site.broker.tls_port, tls=site.authority.client_context(forged)))


def test_connection_is_refused_when_the_certificate_is_revoked(site: Site) -> None:
    revoked = site.authority.issue("pi-8")
    site.authority.revoke(revoked)
    site.broker.restart()

    assert is_refused(Probe(site.broker.tls_port, tls=site.authority.client_context(revoked)))


def test_device_stays_connected_when_another_takes_its_client_id(site: Site) -> None:
    topic = TOPICS.build(Address(Kind.COORDINATOR_STATUS))
    with site.connect("pi-1", client_id="pi-1") as victim, site.connect("coordinator") as coordinator:
        victim.subscribe(*TOPICS.agent_filters("pi-1"))

        with site.connect("pi-2", client_id="pi-1"):
            coordinator.publish(topic, b"still here?")

            assert victim.next_message() == (topic, b"still here?")


def test_older_connection_ends_when_the_same_user_connects_again(site: Site) -> None:
    with site.connect("pi-1", client_id="first") as older, site.connect("pi-1", client_id="second"):
        # Mosquitto 2.0.11 closes it without a word; newer ones send "Session taken over" first.
        older.wait_until_disconnected()


def is_refused(probe: Probe) -> bool:
    """True when the connection is not made, whichever side says so first."""
    try:
        return probe.connect_or_end() != "Success"
    except REFUSALS:
        return True
    finally:
        probe.close()


def test_open_connection_is_mute_and_the_others_stay_when_revoked_on_sighup(site: Site) -> None:
    status = TOPICS.build(Address(Kind.COORDINATOR_STATUS))
    with site.connect("pi-6") as revoked, site.connect("pi-7") as other, site.connect("coordinator") as coordinator:
        revoked.subscribe(*TOPICS.agent_filters("pi-6"))
        other.subscribe(*TOPICS.agent_filters("pi-7"))
        coordinator.subscribe(*TOPICS.coordinator_filters())
        (site.broker.folder / "acl").write_text(render_acl("fl", ["pi-6"]))

        os.kill(site.broker.pid, signal.SIGHUP)
        site.broker.wait_until_logged("Reloading config.")

        assert other.publish(TOPICS.build(Address(Kind.UPDATE, "pi-7", "run-1", 1))) == "Success"
        coordinator.publish(status, b"still here?")
        assert other.next_message() == (status, b"still here?")
        assert revoked.publish(TOPICS.build(Address(Kind.UPDATE, "pi-6", "run-1", 1))) == "Not authorized"
        assert not revoked.has_message()


def test_coordinator_learns_that_a_device_is_gone_when_its_connection_is_taken_over(site: Site) -> None:
    topic = TOPICS.build(Address(Kind.STATUS, "pi-4"))
    context = site.authority.client_context(site.authority.issue("pi-4"))
    older = Probe(site.broker.tls_port, tls=context)
    older.set_will(topic, b"gone")
    with site.connect("coordinator") as coordinator, older:
        coordinator.subscribe(*TOPICS.coordinator_filters())

        with Probe(site.broker.tls_port, tls=context):
            assert coordinator.next_message() == (topic, b"gone")


def test_connection_is_refused_when_the_certificate_is_revoked_on_sighup(site: Site) -> None:
    revoked = site.authority.issue("pi-5")
    site.authority.revoke(revoked)

    os.kill(site.broker.pid, signal.SIGHUP)

    while not is_refused(Probe(site.broker.tls_port, tls=site.authority.client_context(revoked))):
        pass  # the broker may not have read it yet; the test's own limit ends this
