"""An agent with a valid password that does everything wrong: rounds go on, it is counted, shut out, and let back."""

import json
import math
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from coordinator.summary import summarise_devices
from mosquitto.broker import PrivateBroker
from mosquitto.sizing import limits_for
from schemas import wire
from schemas.messages import AgentStatus, BlobHeader, RoundAnnouncement
from schemas.topics import Address, Kind, Topics
from schemas.weights import Array, decode, encode
from tests.integration.echo_federation import EchoFederation
from tests.integration.federation import RUN_ID
from tests.integration.mqtt_probe import Probe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

HOSTILE = "hostile"
TOPICS = Topics()
FLOOD = 10_000


class Hostile:
    """A client with an agent's rights, and what it was last invited to."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.round_number = 0
        self.attempt = 0
        self.model: dict[str, Array] = {}
        self.sha256 = ""
        self.old_update = b""

    def introduce(self) -> None:
        status = wire.encode(AgentStatus(state="online", instance="evil"))
        self.probe.publish(TOPICS.build(Address(Kind.STATUS, HOSTILE)), status)

    def wait_for_invitation(self) -> None:
        """Read on until there is a round that we were not in yet, and its model."""
        models: dict[int, bytes] = {}
        last = (self.round_number, self.attempt)
        announced = last
        while announced == last or announced[0] not in models:
            topic, payload = self.probe.next_message()
            address = TOPICS.parse(topic)
            assert address is not None
            if address.kind in (Kind.MODEL, Kind.AGENT_MODEL):
                models[address.round_number] = payload
            elif address.kind is Kind.ANNOUNCEMENT:
                message = wire.decode(payload, RoundAnnouncement).message
                announced = (message.round_number, message.attempt)
                self.sha256 = message.model.sha256
        self.round_number, self.attempt = announced
        self.model = decode(models[self.round_number])[1]

    def blob(self, weights: dict[str, Array], **header: object) -> bytes:
        fields = {
            "kind": "update",
            "run_id": RUN_ID,
            "round_number": self.round_number,
            "sender": HOSTILE,
            "base_sha256": self.sha256,
            "num_examples": 1000,
            "num_batches": 1,
        }
        return encode(weights, wire.encode(BlobHeader.model_validate(fields | header)))

    def filled(self, value: float) -> bytes:
        """An update that is as large as it should be, full of one value."""
        return self.blob({name: np.full_like(array, value) for name, array in self.model.items()})

    def send(self, payload: bytes) -> None:
        self.probe.send(self.topic(Kind.UPDATE), payload)

    def topic(self, kind: Kind, agent_id: str = HOSTILE) -> str:
        return TOPICS.build(Address(kind, agent_id, RUN_ID, self.round_number))


def head(length: int, text: bytes = b"{}") -> bytes:
    """The beginning of a safetensors file that says that its head has `length` bytes."""
    return length.to_bytes(8, "little") + text


def declared(shape: list[int], offsets: list[int]) -> bytes:
    """A file whose only tensor claims a shape and a place."""
    text = json.dumps({"conv1.bias": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}).encode()
    return head(len(text), text)


Attack = Callable[[Hostile], bytes]


def replay(hostile: Hostile) -> bytes:
    """What was accepted in an earlier round."""
    return hostile.old_update


UPDATES: dict[str, tuple[Attack, str]] = {
    "replay of an old update": (replay, "stale-round"),
    "nothing": (lambda _: b"", "malformed"),
    "one byte": (lambda _: b"\0", "malformed"),
    "noise": (lambda _: bytes(range(256)) * 40, "too-large malformed"),
    "truncated": (lambda h: h.filled(0.0)[:-1000], "malformed"),
    "too long": (lambda h: h.filled(0.0) + b"\0" * 64, "malformed"),
    "head of 2**63 bytes": (lambda _: head(2**63), "too-large malformed"),
    "head of all bytes": (lambda _: head(2**64 - 1), "too-large malformed"),
    "tensor of 2**60 elements": (lambda _: declared([2**30, 2**30], [0, 2**62]), "malformed too-large"),
    "empty tensor of 10**20": (lambda _: declared([0, 9999999999, 9999999999], [0, 0]), "malformed"),
    "tensor with negative place": (lambda _: declared([16], [-64, 0]), "malformed"),
    "oversize": (lambda h: h.blob({"w": np.zeros(150_000, np.float32)}), "too-large"),
    "other names": (lambda h: h.blob({"w": np.zeros(8, np.float32)}), "wrong-names"),
    "other shapes": (lambda h: h.blob({n: a.reshape(-1)[:-1] for n, a in h.model.items()}), "wrong-shape"),
    "other dtype": (lambda h: h.blob({n: a.astype(np.float16) for n, a in h.model.items()}), "wrong-dtype"),
    "NaN": (lambda h: h.filled(math.nan), "non-finite"),
    "infinity": (lambda h: h.filled(math.inf), "non-finite"),
    "1e38": (lambda h: h.filled(1e38), "norm-exceeded"),
    "another's name": (lambda h: h.blob(h.model, sender="room-1"), "wrong-sender"),
    "2**31 + 1 examples": (lambda h: h.blob(h.model, num_examples=2**31 + 1), "wrong-examples malformed"),
}
"""What to send as an update, and the reasons of which one must be given."""


@pytest.fixture
def own_broker(mosquitto_program: str, tmp_path: Path) -> Iterator[PrivateBroker]:
    assert mosquitto_program
    users = ["coordinator", HOSTILE, "room-1", "room-2", "room-3"]
    limits = limits_for(200_000, 5)
    with PrivateBroker(tmp_path / "broker", {user: f"secret-{user}" for user in users}, limits=limits) as broker:
        yield broker


def reasons(federation: EchoFederation) -> set[str]:
    return {reason for record in federation.rounds() for reason in record.refused.get(HOSTILE, {})}


def test_rounds_go_on_when_an_agent_sends_every_wrong_update_until_it_is_shut_out_and_let_back(
    own_broker: PrivateBroker, tmp_path: Path
) -> None:
    # The replay does not count, as it might be late; the byte behind it does.
    with (
        EchoFederation(tmp_path, own_broker, quarantine_after=len(UPDATES)) as federation,
        Probe(own_broker.port, HOSTILE, own_broker.passwords[HOSTILE], HOSTILE) as probe,
    ):
        hostile = Hostile(probe)
        probe.subscribe(*TOPICS.agent_filters(HOSTILE))
        federation.start()
        federation.wait_for_coordinator()
        hostile.introduce()
        hostile.wait_for_invitation()
        hostile.old_update = hostile.filled(1e-45)  # denormal, and as good as any other
        hostile.send(hostile.old_update)
        for attack, _ in UPDATES.values():
            hostile.wait_for_invitation()
            hostile.send(attack(hostile))
            if attack is replay:
                hostile.send(b"\0")  # a late update is waited for; this one is not
        federation.wait_until(lambda: bool(federation.events("agent-quarantined")), "the quarantine", 180.0)
        federation.wait_for_rounds(3)
        expected = {frozenset(reason.split()) for _, reason in UPDATES.values()}
        assert all(some & reasons(federation) for some in expected), reasons(federation)
        assert len([r for r in federation.rounds() if HOSTILE in r.accepted]) == 1
        # The first round may have opened with the hostile one in an honest one's place.
        assert all(set(federation.names) <= set(record.accepted) for record in federation.rounds()[1:])
        assert HOSTILE not in federation.rounds()[-1].selected
        assert [d.agent_id for d in summarise_devices(federation.records()) if d.quarantined] == [HOSTILE]

        # It is still shut out when the coordinator was killed, and comes back when the operator says so.
        federation.coordinator.kill()
        federation.resume()
        federation.wait_until(lambda: bool(federation.events("resumed")), "the run to be resumed", 240.0)
        federation.wait_for_rounds(3)
        assert HOSTILE not in federation.rounds()[-1].selected
        command = [sys.executable, "-m", "coordinator.cli", "release", HOSTILE, RUN_ID, "--runs", str(federation.runs)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "let back within a second" in done.stdout, done.stderr
        hostile.introduce()
        federation.wait_until(lambda: bool(federation.events("agent-released")), "the release")
        released = federation.events("agent-released")[0].round_number
        federation.wait_until(
            lambda: any(HOSTILE in r.selected for r in federation.rounds() if r.round_number > released),
            "an invitation",
        )


def test_rounds_go_on_when_an_agent_floods_the_broker(own_broker: PrivateBroker, tmp_path: Path) -> None:
    with (
        EchoFederation(tmp_path, own_broker, quarantine_after=20) as federation,
        Probe(own_broker.port, HOSTILE, own_broker.passwords[HOSTILE], HOSTILE) as probe,
    ):
        hostile = Hostile(probe)
        probe.subscribe(*TOPICS.agent_filters(HOSTILE))
        federation.start()
        federation.wait_for_coordinator()
        hostile.introduce()

        # For others: the broker passes nothing on.
        assert probe.publish(hostile.topic(Kind.UPDATE, "room-1"), b"forged") == "Not authorized"
        assert probe.publish(TOPICS.build(Address(Kind.ANNOUNCEMENT, "room-1")), b"{}") == "Not authorized"
        assert probe.publish(TOPICS.build(Address(Kind.COORDINATOR_STATUS)), b"{}") == "Not authorized"
        for _ in range(5):
            probe.subscribe(*(f"fl/v1/agents/+/{'+/' * (n % 20)}{n}" for n in range(200)))
        probe.subscribe("#", "fl/#", TOPICS.build(Address(Kind.UPDATE, "room-1", RUN_ID, 1)))
        slow = never_reading(own_broker)
        for number in range(FLOOD):
            kind = (Kind.REPORT, Kind.REQUEST, Kind.STATUS, Kind.OFFER)[number % 4]
            probe.send(TOPICS.build(Address(kind, HOSTILE, RUN_ID, 1)), b'{"v":"1.0","what":"' + b"x" * 40)

        federation.wait_until(lambda: bool(federation.events("agent-quarantined")), "the quarantine", 180.0)
        federation.wait_for_rounds(5)
        rounds = federation.rounds()
        assert all(set(federation.names) <= set(record.accepted) for record in rounds[-5:])
        counted = sum(n for record in rounds for n in record.refused.get(HOSTILE, {}).values())
        assert counted >= 20
        assert federation.coordinator.log().count("refused") < 1000
        slow.close()


def never_reading(broker: PrivateBroker) -> socket.socket:
    """A second connection under another id of the hostile user that subscribes to all models and never reads."""
    connection = socket.create_connection(("127.0.0.1", broker.port))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    name, password = HOSTILE.encode(), broker.passwords[HOSTILE].encode()

    def text(value: bytes) -> bytes:
        return len(value).to_bytes(2, "big") + value

    body = text(b"MQTT") + b"\5\xc2\0\0\0" + text(b"slow") + text(name) + text(password)
    connection.sendall(b"\x10" + bytes([len(body)]) + body)
    topics = b"\0\1\0" + text(b"fl/v1/models/+/+") + b"\1"
    connection.sendall(b"\x82" + bytes([len(topics)]) + topics)
    return connection
