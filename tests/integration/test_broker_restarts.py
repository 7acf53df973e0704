"""What a real broker of ours keeps over restarts, and that its helpers do to it what they say."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mosquitto.broker import BrokerError, PrivateBroker
from mosquitto.render import BrokerSettings, PlainListener, TlsListener, render
from mosquitto.sizing import limits_for
from schemas.topics import Address, Kind, Topics
from tests.integration.mqtt_probe import Probe

STATUS_TOPIC = Topics().build(Address(Kind.STATUS, "pi-1"))
PASSWORDS = {"coordinator": "first", "pi-1": "second"}


@pytest.fixture
def own_broker(mosquitto_program: str, tmp_path: Path) -> Iterator[PrivateBroker]:
    """A broker that the test may break."""
    assert mosquitto_program
    with PrivateBroker(tmp_path / "a folder", PASSWORDS) as broker:
        yield broker


def retain_status(broker: PrivateBroker) -> None:
    with Probe(broker.port, "pi-1", PASSWORDS["pi-1"]) as agent:
        assert agent.publish(STATUS_TOPIC, b"online", retain=True) == "No matching subscribers"


def retained_status(broker: PrivateBroker) -> tuple[str, bytes]:
    with Probe(broker.port, "coordinator", PASSWORDS["coordinator"]) as coordinator:
        coordinator.subscribe(*Topics().coordinator_filters())
        return coordinator.next_message()


def test_retained_status_survives_when_broker_restarts(own_broker: PrivateBroker) -> None:
    retain_status(own_broker)
    port = own_broker.port

    own_broker.restart()

    assert own_broker.port == port
    assert retained_status(own_broker) == (STATUS_TOPIC, b"online")


def test_saved_status_survives_when_broker_is_killed(own_broker: PrivateBroker) -> None:
    retain_status(own_broker)
    own_broker.save()

    own_broker.kill()
    assert not own_broker.running
    own_broker.start()

    assert retained_status(own_broker) == (STATUS_TOPIC, b"online")


def test_suspended_broker_answers_nothing_until_it_resumes(own_broker: PrivateBroker) -> None:
    with Probe(own_broker.port, "pi-1", PASSWORDS["pi-1"]) as agent:
        own_broker.suspend()
        agent.send(STATUS_TOPIC)
        assert not agent.acknowledged

        own_broker.resume()

        assert agent.next_reason() == "No matching subscribers"


def test_stop_ends_the_broker_when_it_is_suspended(own_broker: PrivateBroker) -> None:
    own_broker.suspend()

    own_broker.stop()

    assert not own_broker.running
    assert "terminating" in own_broker.log()


def test_start_changes_nothing_when_the_broker_runs(own_broker: PrivateBroker) -> None:
    pid = own_broker.pid

    own_broker.start()

    assert own_broker.pid == pid


def test_signals_are_refused_when_the_broker_is_stopped(own_broker: PrivateBroker) -> None:
    own_broker.stop()
    own_broker.stop()

    with pytest.raises(BrokerError, match="not running"):
        own_broker.suspend()


def test_start_quotes_the_log_when_the_configuration_is_wrong(own_broker: PrivateBroker) -> None:
    own_broker.stop()
    config = own_broker.folder / "mosquitto.conf"
    config.write_text(config.read_text() + "no_such_option 1\n")

    with pytest.raises(BrokerError, match="no_such_option"):
        own_broker.start()


def test_two_brokers_run_side_by_side(own_broker: PrivateBroker, tmp_path: Path) -> None:
    with PrivateBroker(tmp_path / "second", PASSWORDS) as second:
        assert second.port != own_broker.port
        retain_status(own_broker)
        retain_status(second)


def test_rendered_password_file_is_readable_by_its_owner_alone(own_broker: PrivateBroker) -> None:
    for name in ("passwords", "acl", "mosquitto.conf"):
        assert (own_broker.folder / name).stat().st_mode & 0o777 == 0o600


def test_rendered_files_are_replaced_when_rendered_again(tmp_path: Path) -> None:
    limits = limits_for(model_bytes=1, num_agents=1)
    settings = BrokerSettings(limits=limits, plain_listeners=(PlainListener(port=1),), passwords=PASSWORDS)
    first = render(tmp_path, settings)
    hashed = (tmp_path / "passwords").read_text()

    certificate = tmp_path / "broker.crt"
    tls = TlsListener(port=1, ca_file=certificate, certificate_file=certificate, key_file=certificate)
    second = render(tmp_path, BrokerSettings(limits=limits, tls_listeners=(tls,)))

    assert first.password_file is not None
    assert "second" not in hashed
    assert second.password_file is None
    assert "password_file" not in second.config_file.read_text()
