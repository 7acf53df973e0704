"""The in-memory network beyond what the contract suite holds: faults, virtual time, and that a seed repeats a run."""

import math
from dataclasses import dataclass, field, replace

import pytest

from schemas.measures import Instant
from simulation.connection import VirtualTransport
from simulation.faults import NO_FAULTS, Faults
from simulation.jobs import VirtualJobs
from simulation.network import USUAL, Conditions, VirtualNetwork
from simulation.schedule import StandstillError
from transport.ports import Connected, Disconnected, Event, JobDone, Message, Received, SessionSpec, StopRequested


@dataclass(eq=False)
class Notes:
    """A service that writes down what happens, and when."""

    transport: VirtualTransport
    jobs: VirtualJobs
    log: list[tuple[float, Event]] = field(default_factory=list)
    woken: list[Instant] = field(default_factory=list)
    wake_s: float = math.inf
    finish_at: type[Event] = StopRequested

    @property
    def finished(self) -> bool:
        return bool(self.times(self.finish_at))

    def on_event(self, event: Event, now: Instant) -> None:
        self.log.append((now.monotonic_s, event))

    def on_time(self, now: Instant) -> None:
        self.woken.append(now)
        self.wake_s = math.inf

    def wake_at_s(self) -> float:
        return self.wake_s

    def publish(self, topic: str, payload: bytes, *, expiry_s: int | None = None) -> None:
        self.transport.publish(Message(topic, payload, expiry_s=expiry_s))

    def received(self) -> list[bytes]:
        """All payloads but the own will, which waits in the own session as well."""
        payloads = [bytes(event.message.payload) for _, event in self.log if isinstance(event, Received)]
        return [payload for payload in payloads if payload != f"{self.transport.name} is gone".encode()]

    def times(self, kind: type[Event]) -> list[float]:
        return [at_s for at_s, event in self.log if isinstance(event, kind)]


class World:
    """A network with parties called a, b, c, each subscribed to `to/NAME` and `all/#`."""

    def __init__(self, seed: int = 0, faults: Faults = NO_FAULTS, conditions: Conditions = USUAL) -> None:
        self.network = VirtualNetwork(seed, faults, conditions)

    def join(self, name: str, *, duration_s: float = 0.0, utc_offset_s: float = 0.0) -> Notes:
        session = SessionSpec(
            name, (f"to/{name}", "all/#"), Message(f"all/{name}", f"{name} is gone".encode()), session_expiry_s=3600
        )
        transport = self.network.transport(session)
        jobs = self.network.jobs(lambda _name, _result: duration_s)
        notes = Notes(transport, jobs)
        self.network.add(notes, transport, jobs, utc_offset_s=utc_offset_s)
        return notes

    def joined(self, *names: str) -> list[Notes]:
        parties = [self.join(name) for name in names]
        assert self.network.run(lambda: all(party.times(Connected) for party in parties), 600)
        return parties

    def wait(self, duration_s: float) -> None:
        self.network.run(lambda: False, duration_s)


def test_party_connects_after_two_round_trips() -> None:
    world = World()
    party = world.join("a")

    world.wait(1)

    assert party.times(Connected) == [pytest.approx(0.004)]


def test_message_takes_two_hops() -> None:
    world = World(conditions=Conditions(latency_s=0.25))
    sender, receiver = world.joined("a", "b")
    sent_s = world.network.clock().monotonic_s

    sender.publish("to/b", b"x")
    world.wait(10)

    assert receiver.times(Received) == [pytest.approx(sent_s + 0.5)]


def test_clock_has_both_times_and_a_party_may_be_wrong_about_the_date() -> None:
    world = World()
    party = world.join("a", utc_offset_s=7200)
    party.wake_s = 5.0

    world.wait(10)

    assert party.woken == [Instant(5.0, 1_700_007_205.0)]
    assert world.network.clock() == Instant(10.0, 1_700_000_010.0)


def test_cut_connection_publishes_the_will_and_comes_back_after_a_pause() -> None:
    world = World()
    party, witness = world.joined("a", "b")

    world.network.cut(party.transport)
    world.wait(10)

    assert witness.received() == [b"a is gone"]
    assert len(party.times(Disconnected)) == 1
    assert 0.5 <= party.times(Connected)[1] - party.times(Disconnected)[0] <= 1.6


def test_crashed_party_gets_nothing_more_and_its_will_is_published() -> None:
    world = World()
    party, witness = world.joined("a", "b")

    witness.publish("to/a", b"too late")
    world.network.crash(party.transport)
    world.wait(10)

    assert party.received() == []
    assert witness.received() == [b"a is gone"]


def test_will_of_a_machine_without_power_waits_for_the_keep_alive() -> None:
    world = World(conditions=Conditions(keep_alive_s=10))
    party, witness = world.joined("a", "b")
    crashed_s = world.network.clock().monotonic_s

    world.network.crash(party.transport, silently=True)
    world.wait(60)

    assert witness.times(Received) == [pytest.approx(crashed_s + 15, abs=0.1)]


def test_restarted_party_gets_what_was_sent_while_it_was_down() -> None:
    world = World()
    party, sender = world.joined("a", "b")
    world.network.crash(party.transport)
    sender.publish("to/a", b"first")
    sender.publish("to/a", b"second")
    world.wait(10)

    (again,) = world.joined("a")
    world.wait(1)

    assert again.received() == [b"first", b"second"]
    assert isinstance(again.log[0][1], Connected)


def test_short_loss_of_contact_only_delays() -> None:
    world = World()
    sender, receiver = world.joined("a", "b")
    begin_s = world.network.clock().monotonic_s

    world.network.partition(sender.transport, 30)
    for number in range(3):
        sender.publish("to/b", str(number).encode())
    world.wait(100)

    assert receiver.received() == [b"0", b"1", b"2"]
    assert min(receiver.times(Received)) >= begin_s + 30
    assert sender.times(Disconnected) == []


def test_long_loss_of_contact_ends_the_connection_and_loses_what_was_sent() -> None:
    world = World(conditions=Conditions(keep_alive_s=10))
    sender, receiver = world.joined("a", "b")

    world.network.partition(sender.transport, 60)
    sender.publish("to/b", b"lost")
    world.wait(300)

    assert receiver.received() == [b"a is gone"]
    assert "did not answer a ping" in str(sender.log[1][1])
    assert len(sender.times(Connected)) == 2
    assert sender.times(Connected)[1] >= 60


@pytest.mark.parametrize("keep_retained", [True, False])
def test_broker_restart_loses_sessions_and_keeps_retained_messages_when_told(keep_retained: bool) -> None:
    world = World()
    party, other = world.joined("a", "b")
    other.transport.publish(Message("all/kept", b"kept", retain=True))
    world.wait(1)
    world.network.crash(party.transport)
    other.publish("to/a", b"queued")
    world.wait(1)

    world.network.restart_broker(5, keep_retained=keep_retained)
    world.wait(60)
    (again,) = world.joined("a")
    world.wait(1)

    assert len(other.times(Connected)) == 2
    assert again.received() == ([b"kept"] if keep_retained else [])


def test_attempts_fail_while_the_broker_is_down_with_growing_pauses() -> None:
    world = World()
    (party,) = world.joined("a")

    world.network.restart_broker(100)
    world.wait(300)

    lost = party.times(Disconnected)
    assert lost[2] - lost[1] < lost[4] - lost[3]
    assert "nothing listens" in str(party.log[-2][1])
    assert isinstance(party.log[-1][1], Connected)


def test_queue_of_an_absent_party_overflows_silently() -> None:
    world = World(conditions=Conditions(max_queued_messages=3))
    party, sender = world.joined("a", "b")
    world.network.crash(party.transport)
    for number in range(10):
        sender.publish("to/a", str(number).encode())
    world.wait(1)

    (again,) = world.joined("a")
    world.wait(1)

    # The third is its own will, to which it has subscribed.
    assert again.received() == [b"0", b"1"]


def test_session_is_forgotten_when_it_has_expired() -> None:
    world = World()
    party, sender = world.joined("a", "b")
    world.network.crash(party.transport)
    sender.publish("to/a", b"queued")
    world.wait(3601)

    (again,) = world.joined("a")
    world.wait(1)

    assert again.received() == []


def test_expired_message_is_not_delivered() -> None:
    world = World()
    party, sender = world.joined("a", "b")
    world.network.crash(party.transport)
    sender.publish("to/a", b"stale", expiry_s=10)
    sender.publish("to/a", b"fresh", expiry_s=100)
    world.wait(50)

    (again,) = world.joined("a")
    world.wait(1)

    assert again.received() == [b"fresh"]


def test_job_takes_its_time_and_the_next_one_waits() -> None:
    world = World()
    party = world.join("a", duration_s=10.0)
    ran_s: list[float] = []

    def work() -> int:
        ran_s.append(world.network.clock().monotonic_s)
        return len(ran_s)

    party.jobs.submit("first", work)
    party.jobs.submit("second", work)
    world.wait(60)

    assert ran_s == [0.0, 10.0]
    done = [(at_s, event) for at_s, event in party.log if isinstance(event, JobDone)]
    assert done == [(10.0, JobDone("first", result=1)), (20.0, JobDone("second", result=2))]


def test_job_of_a_crashed_party_reports_to_nobody() -> None:
    world = World()
    party = world.join("a", duration_s=10.0)
    party.jobs.submit("training", lambda: None)
    world.wait(5)

    world.network.crash(party.transport)
    world.wait(60)

    assert party.times(JobDone) == []


def test_stop_reaches_the_service() -> None:
    world = World()
    (party,) = world.joined("a")

    world.network.stop(party.transport)

    assert party.log[-1][1] == StopRequested("SIGTERM")


def test_run_ends_when_every_party_is_finished() -> None:
    world = World()
    parties = [world.join(name) for name in "ab"]
    for party in parties:
        party.finish_at = Connected

    assert world.network.run(max_virtual_s=60)
    assert world.network.clock().monotonic_s < 1


def test_run_gives_up_when_time_is_over() -> None:
    world = World()
    world.join("a")

    assert not world.network.run(max_virtual_s=60)
    assert world.network.clock().monotonic_s == 60


def test_run_does_not_end_before_what_was_planned() -> None:
    world = World()
    happened: list[float] = []

    world.network.at(100, lambda: happened.append(world.network.clock().monotonic_s))

    assert world.network.run()
    assert happened == [100]


def test_service_that_never_lets_time_pass_is_an_error() -> None:
    world = World()
    party = world.join("a")

    def snooze(_now: Instant) -> None:
        party.wake_s = 5.0

    party.on_time = snooze  # type: ignore[method-assign, assignment]
    party.wake_s = 5.0

    with pytest.raises(StandstillError, match="5 s"):
        world.wait(60)


def test_hours_of_silence_cost_a_ping_each_minute() -> None:
    world = World()
    (party,) = world.joined("a")
    before = party.transport.traffic.copy()

    world.wait(3600)

    assert party.transport.traffic.since(before).packet_bytes_up == 60 * 2
    assert party.transport.traffic.since(before).packet_bytes_down == 60 * 2


NOISE = Faults(cut=0.02, duplicate=0.1, delay_s=5.0, partition_every_s=300, restart_every_s=900, until_s=3000)


def numbers(world: World, parties: list[Notes], rounds: int = 100) -> None:
    """Each party sends numbered messages to each of two topics of the next one, one pair a minute."""
    for number in range(rounds):
        for sender, to in zip(parties, "bca", strict=True):
            sender.publish(f"to/{to}", b"%d" % number)
            sender.publish(f"all/{to}/more", b"%d" % number)
        world.wait(60)


def test_same_seed_gives_the_same_run() -> None:
    def run(seed: int) -> list[list[tuple[float, Event]]]:
        world = World(seed, NOISE)
        parties = [world.join(name) for name in "abc"]
        numbers(world, parties)
        return [party.log for party in parties]

    first = run(1)

    assert run(1) == first
    assert run(2) != first


def test_parties_come_to_rest_connected_when_the_faults_are_over() -> None:
    world = World(3, NOISE)
    parties = [world.join(name) for name in "abc"]

    numbers(world, parties)

    assert all(len(party.times(Disconnected)) > 3 for party in parties)
    for party in parties:
        before = len(party.received())
        party.publish("all/at-rest", b"")
        world.wait(10)
        assert len(party.received()) == before + 1


def test_cut_loses_or_repeats_messages() -> None:
    world = World(1, Faults(cut=0.1))
    (sender, receiver) = world.joined("a", "b")
    for number in range(300):
        sender.publish("to/b", b"%d" % number)
        world.wait(10)

    arrived = receiver.received()
    assert 200 < len(set(arrived)) < 300
    assert len(arrived) > len(set(arrived))


def test_duplicate_arrives_twice() -> None:
    world = World(faults=Faults(duplicate=1.0))
    (sender, receiver) = world.joined("a", "b")

    sender.publish("to/b", b"x")
    world.wait(10)

    assert receiver.received() == [b"x", b"x"]


def test_dropped_message_is_never_seen_and_nobody_is_told() -> None:
    world = World(faults=Faults(drop=1.0))
    (sender, receiver) = world.joined("a", "b")

    sender.publish("to/b", b"x")
    world.wait(10)

    assert receiver.received() == []
    assert sender.times(Disconnected) == receiver.times(Disconnected) == []


def test_delay_reorders_topics_and_never_messages_of_one_topic() -> None:
    world = World(5, Faults(delay_s=10.0))
    sender, receiver = world.joined("a", "b")
    for number in range(50):
        sender.publish("to/b", b"%d" % number)
        sender.publish("all/b", b"other %d" % number)
    world.wait(100)

    arrived = receiver.received()
    own = [payload for payload in arrived if not payload.startswith(b"other")]
    others = [payload for payload in arrived if payload.startswith(b"other")]
    assert own == [b"%d" % number for number in range(50)]
    assert others == [b"other %d" % number for number in range(50)]
    assert arrived != [payload for pair in zip(own, others, strict=True) for payload in pair]


def test_no_fault_strikes_after_its_time() -> None:
    world = World(1, replace(NOISE, cut=1.0, until_s=0.0))
    sender, receiver = world.joined("a", "b")

    for number in range(20):
        sender.publish("to/b", b"%d" % number)
        world.wait(1000)

    assert receiver.received() == [b"%d" % number for number in range(20)]


def test_turning_one_fault_on_does_not_change_when_another_strikes() -> None:
    def dropped(faults: Faults) -> set[bytes]:
        world = World(1, faults)
        sender, receiver = world.joined("a", "b")
        for number in range(100):
            sender.publish("to/b", b"%d" % number)
        world.wait(100)
        return {b"%d" % number for number in range(100)} - set(receiver.received())

    assert dropped(Faults(drop=0.3)) == dropped(Faults(drop=0.3, duplicate=0.3))
