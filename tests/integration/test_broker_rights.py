"""What each user may do on a real broker with our ACL. Rights show in deliveries and PUBACKs, never in SUBACKs."""

import pytest

from mosquitto.broker import PrivateBroker
from schemas.topics import TO_AGENT, TO_COORDINATOR, Address, Kind, Topics
from tests.integration.mqtt_probe import Probe

REFUSED = "Not authorized"
TOPICS = Topics()


def connect(broker: PrivateBroker, user: str) -> Probe:
    return Probe(broker.port, user, broker.passwords[user])


def topic_of(kind: Kind, agent_id: str = "pi-1") -> str:
    return TOPICS.build(Address(kind, agent_id, "run-1", 3, 7))


@pytest.mark.parametrize("kind", TO_COORDINATOR)
def test_agents_message_reaches_coordinator_when_on_own_topic(broker: PrivateBroker, kind: Kind) -> None:
    with connect(broker, "coordinator") as coordinator, connect(broker, "pi-1") as agent:
        coordinator.subscribe(*TOPICS.coordinator_filters())

        assert agent.publish(topic_of(kind), b"from pi-1") == "Success"

        assert coordinator.next_message() == (topic_of(kind), b"from pi-1")


@pytest.mark.parametrize("kind", TO_COORDINATOR)
def test_agents_message_is_refused_when_on_another_agents_topic(broker: PrivateBroker, kind: Kind) -> None:
    with connect(broker, "coordinator") as coordinator, connect(broker, "pi-2") as forger:
        coordinator.subscribe(*TOPICS.coordinator_filters())

        assert forger.publish(topic_of(kind), b"forged") == REFUSED

        # Delivered in order, so nothing forged is still on its way once this one is there.
        forger.publish(topic_of(Kind.REQUEST, "pi-2"), b"genuine")
        assert coordinator.next_message() == (topic_of(Kind.REQUEST, "pi-2"), b"genuine")


@pytest.mark.parametrize("kind", [*TO_AGENT, Kind.MODEL, Kind.COORDINATOR_STATUS])
def test_agents_message_is_refused_when_it_poses_as_coordinator(broker: PrivateBroker, kind: Kind) -> None:
    with connect(broker, "pi-1") as agent:
        assert agent.publish(topic_of(kind), b"forged") == REFUSED


@pytest.mark.parametrize("kind", [*TO_AGENT, Kind.MODEL, Kind.COORDINATOR_STATUS])
def test_coordinators_message_reaches_agent_when_subscribed(broker: PrivateBroker, kind: Kind) -> None:
    with connect(broker, "coordinator") as coordinator, connect(broker, "pi-1") as agent:
        agent.subscribe(*TOPICS.agent_filters("pi-1"))

        assert coordinator.publish(topic_of(kind), b"hello") == "Success"

        assert agent.next_message() == (topic_of(kind), b"hello")


def test_own_status_reaches_agent_when_subscribed(broker: PrivateBroker) -> None:
    with connect(broker, "pi-1") as agent:
        agent.subscribe(*TOPICS.agent_filters("pi-1"))

        agent.publish(topic_of(Kind.STATUS), b"online")

        assert agent.next_message() == (topic_of(Kind.STATUS), b"online")


@pytest.mark.parametrize("kind", [*TO_AGENT, *TO_COORDINATOR])
def test_agent_receives_nothing_of_another_agent_when_subscribed_to_everything(
    broker: PrivateBroker, kind: Kind
) -> None:
    with (
        connect(broker, "coordinator") as coordinator,
        connect(broker, "pi-1") as agent,
        connect(broker, "pi-2") as spy,
    ):
        assert set(spy.subscribe("fl/#", topic_of(kind))) == {"Granted QoS 1"}

        sender = coordinator if kind in TO_AGENT else agent
        sender.publish(topic_of(kind), b"secret")
        coordinator.publish(topic_of(Kind.COORDINATOR_STATUS), b"for all")

        assert spy.next_message() == (topic_of(Kind.COORDINATOR_STATUS), b"for all")


@pytest.mark.parametrize("kind", [Kind.STATUS, Kind.UPDATE, Kind.REPORT])
def test_coordinators_message_is_refused_when_it_poses_as_agent(broker: PrivateBroker, kind: Kind) -> None:
    with connect(broker, "coordinator") as coordinator:
        assert coordinator.publish(topic_of(kind)) == REFUSED
        assert coordinator.publish(topic_of(kind, "coordinator")) == REFUSED


def test_monitor_sees_statuses_reports_and_broker_figures(broker: PrivateBroker) -> None:
    with (
        connect(broker, "coordinator") as coordinator,
        connect(broker, "pi-1") as agent,
        connect(broker, "monitor") as monitor,
    ):
        monitor.subscribe("$SYS/broker/version")
        assert monitor.next_message()[0] == "$SYS/broker/version"

        monitor.subscribe("fl/#")
        for kind in (Kind.STATUS, Kind.UPDATE, Kind.REQUEST, Kind.REPORT):
            agent.publish(topic_of(kind))
        for kind in (Kind.ANNOUNCEMENT, Kind.MODEL, Kind.COORDINATOR_STATUS):
            coordinator.publish(topic_of(kind))

        visible = [topic_of(kind) for kind in (Kind.STATUS, Kind.REPORT, Kind.COORDINATOR_STATUS)]
        assert monitor.messages_until(visible[-1]) == visible


@pytest.mark.parametrize("kind", list(Kind))
def test_monitors_message_is_refused_on_every_topic(broker: PrivateBroker, kind: Kind) -> None:
    with connect(broker, "monitor") as monitor:
        assert monitor.publish(topic_of(kind)) == REFUSED
        assert monitor.publish(topic_of(kind, "monitor")) == REFUSED


@pytest.mark.parametrize(("victim", "outcome"), [("pi-2", ["will"]), ("pi-1", [])])
def test_agents_will_is_delivered_only_when_on_its_own_topic(
    broker: PrivateBroker, victim: str, outcome: list[str]
) -> None:
    client_id = f"will-for-{victim}"
    mortal = Probe(broker.port, "pi-2", broker.passwords["pi-2"], client_id)
    mortal.set_will(topic_of(Kind.STATUS, victim), b"will")
    with connect(broker, "coordinator") as coordinator, connect(broker, "pi-3") as other:
        coordinator.subscribe(*TOPICS.coordinator_filters())

        mortal.connect()
        mortal.break_off()
        broker.wait_until_logged(f"Client {client_id} closed its connection")
        other.publish(topic_of(Kind.REQUEST, "pi-3"), b"end")

        deliveries = [coordinator.next_message()[1].decode() for _ in (*outcome, "end")]
        assert deliveries == [*outcome, "end"]


def test_connection_is_refused_when_anonymous_and_passwords_are_on(broker: PrivateBroker) -> None:
    assert str(Probe(broker.port).connect()) == REFUSED


def test_connection_is_refused_when_the_password_is_wrong(broker: PrivateBroker) -> None:
    assert str(Probe(broker.port, "pi-1", "password of pi-2").connect()) == REFUSED


def test_anonymous_client_may_neither_publish_nor_read_agents_when_there_are_no_passwords(
    mosquitto_program: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert mosquitto_program
    with PrivateBroker(tmp_path_factory.mktemp("open")) as open_broker, Probe(open_broker.port) as anyone:
        assert anyone.publish(topic_of(Kind.STATUS)) == REFUSED
        assert anyone.publish(topic_of(Kind.MODEL)) == REFUSED


def test_other_federations_topics_are_refused_when_the_prefix_differs(broker: PrivateBroker) -> None:
    with connect(broker, "pi-1") as agent:
        assert agent.publish(Topics("other").build(Address(Kind.STATUS, "pi-1"))) == REFUSED
