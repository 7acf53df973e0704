"""The bytes that the transport counts are those on the wire: paho's private methods are watched at the right place."""

import os
import tracemalloc

from benchmarks.proxy import Proxy
from mosquitto.broker import PrivateBroker
from schemas.topics import Kind
from tests.integration.mqtt_party import Party, agent_session, coordinator_session, topic
from transport.address import BrokerAddress
from transport.mqtt import MqttTransport
from transport.ports import Connected, Message, SessionSpec
from transport.timing import Timing


def party(broker: PrivateBroker, proxy: Proxy, session: SessionSpec) -> Party:
    password = broker.passwords[session.name]
    address = BrokerAddress("127.0.0.1", proxy.port, session.name, password, keep_alive_s=1)
    return Party(MqttTransport(session, address, Timing(first_retry_s=0.02)))


def test_counted_bytes_are_those_that_a_proxy_passed_on(broker: PrivateBroker) -> None:
    with Proxy(broker.port) as agents_proxy, Proxy(broker.port) as coordinators_proxy:
        agent = party(broker, agents_proxy, agent_session()).connect()
        coordinator = party(broker, coordinators_proxy, coordinator_session()).connect()

        for size in (0, 1, 127, 128, 16_383, 200_000, 3_000_000):
            agent.transport.publish(Message(topic(Kind.UPDATE), os.urandom(size)))
            coordinator.transport.publish(Message(topic(Kind.AGENT_MODEL), os.urandom(size), expiry_s=60))
        coordinator.until(lambda: len(coordinator.received()) == len(agent.received()) == 7, agent)
        agent.until(lambda: agents_proxy.bytes_up == agent.transport.traffic.packet_bytes_up, coordinator)
        agents_proxy.cut()
        agent.until(lambda: sum(isinstance(event, Connected) for event in agent.events) == 2, coordinator)
        pinged = agent.transport.traffic.packet_bytes_up + 2
        agent.until(lambda: agent.transport.traffic.packet_bytes_up >= pinged, coordinator)
        for each in (agent, coordinator):
            each.transport.close()

        for each, proxy in ((agent, agents_proxy), (coordinator, coordinators_proxy)):
            proxy.finish()
            assert each.transport.traffic.packet_bytes_up == proxy.bytes_up
            assert each.transport.traffic.packet_bytes_down == proxy.bytes_down
            assert each.transport.traffic.payload_bytes_down == sum(map(len, each.received()))


def test_what_arrives_during_the_goodbye_is_not_kept_in_memory(broker: PrivateBroker) -> None:
    with Proxy(broker.port) as agents_proxy, Proxy(broker.port) as coordinators_proxy:
        agent = party(broker, agents_proxy, agent_session()).connect()
        coordinator = party(broker, coordinators_proxy, coordinator_session()).connect()
        for _ in range(60):  # 15 MB, of which the coordinator has read nothing when it leaves
            agent.transport.publish(Message(topic(Kind.UPDATE), os.urandom(250_000)))
        agent.until(lambda: agent.transport.settled)
        coordinator.transport.publish(Message(topic(Kind.AGENT_MODEL), b"the last word", expiry_s=60))

        tracemalloc.start()
        try:
            coordinator.transport.close()
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

        assert coordinator.transport.traffic.payload_bytes_down > 10_000_000
        assert peak_bytes < 4_000_000
        agent.transport.close()
