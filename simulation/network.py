"""A broker and many parties in memory and in virtual time: the same services as over Mosquitto, run in milliseconds.

Everything follows from the seed and from what the services do: two runs with the same seed are the same run.
By default nothing goes wrong and every hop takes one millisecond; `faults.py` lists what can go wrong.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from schemas.measures import Instant
from simulation.broker import Broker
from simulation.connection import Medium, VirtualTransport
from simulation.faults import NO_FAULTS, Adversary, Faults
from simulation.jobs import Duration, VirtualJobs, no_time
from simulation.schedule import Schedule
from transport.ports import Event, Service, SessionSpec, StopRequested

START = Instant(0.0, 1_700_000_000.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What the network is like when nothing goes wrong.

    Attributes:
        latency_s: of one hop, between a party and the broker.
        max_packet_bytes: announced by the broker.
        max_queued_messages: for a party that is away; what comes on top is dropped silently.
    """

    latency_s: float = 0.001
    keep_alive_s: float = 60.0
    max_packet_bytes: int = 8 * 1024 * 1024 + 64 * 1024
    max_queued_messages: int = 1000


USUAL = Conditions()


@dataclass(slots=True, eq=False)
class _Party:
    service: Service
    transport: VirtualTransport
    jobs: VirtualJobs
    utc_offset_s: float
    alarm_s: float = math.inf
    present: bool = True


class VirtualNetwork:
    """One broker, its parties, and their time.

    A service needs its transport and its jobs before it can be made, so joining takes two steps:
    `transport` and `jobs`, then `add`, as with `transport.driver.Loop`.

    Args:
        seed: of the faults.
        faults: what goes wrong, and how often.
        conditions: latency and limits.
        start: the first moment.
    """

    def __init__(
        self,
        seed: int = 0,
        faults: Faults = NO_FAULTS,
        conditions: Conditions = USUAL,
        start: Instant = START,
    ) -> None:
        self._schedule = Schedule(start.monotonic_s)
        self._utc_ahead_s = start.utc_s - start.monotonic_s
        self._adversary = Adversary(seed, faults)
        self._broker = Broker(conditions.max_queued_messages)
        self._medium = Medium(
            schedule=self._schedule,
            broker=self._broker,
            adversary=self._adversary,
            latency_s=conditions.latency_s,
            keep_alive_s=conditions.keep_alive_s,
            max_packet_bytes=conditions.max_packet_bytes,
        )
        self._parties: dict[VirtualTransport, _Party] = {}
        self._planned = 0
        if faults.partition_every_s < math.inf:
            self._plan_partition()
        if faults.restart_every_s < math.inf:
            self._plan_restart()

    def clock(self) -> Instant:
        """The time now, for parties whose wall clock is right."""
        return Instant(self._schedule.now_s, self._schedule.now_s + self._utc_ahead_s)

    def transport(
        self, session: SessionSpec, username: str | None = None, password: str | None = None
    ) -> VirtualTransport:
        """A connection for a new party; it starts to connect when the party is added."""
        return VirtualTransport(self._medium, session, username, password)

    def jobs(self, duration_s: Duration = no_time) -> VirtualJobs:
        """A worker for a new party."""
        return VirtualJobs(self._schedule, duration_s)

    def add(
        self, service: Service, transport: VirtualTransport, jobs: VirtualJobs, *, utc_offset_s: float = 0.0
    ) -> None:
        """Let a party take part from now on. `utc_offset_s`: how wrong its wall clock is."""
        party = _Party(service, transport, jobs, utc_offset_s)
        self._parties[transport] = party
        transport.attach(lambda event: self._hand_over(party, event))
        jobs.attach(lambda event: self._hand_over(party, event))
        self._set_alarm(party)

    def at(self, time_s: float, action: Callable[[], None]) -> None:
        """Do something at a moment, such as crashing a party; `run` does not end before it."""
        self._planned += 1
        self._schedule.at(time_s, self._carry_out, action)

    def run(self, until: Callable[[], bool] | None = None, max_virtual_s: float = 24 * 3600.0) -> bool:
        """Let time pass until every party is finished, or `until` says so.

        Returns:
            True when that came about, False when `max_virtual_s` passed first or nothing was left to happen.

        Raises:
            StandstillError: a service asks again and again to be woken at once.
        """
        done = until or self._all_finished
        end_s = self._schedule.now_s + max_virtual_s
        while not done():
            next_s = self._schedule.next_s()
            if next_s > end_s or next_s == math.inf:
                self._schedule.now_s = end_s if end_s < math.inf else self._schedule.now_s
                return False
            self._schedule.step()
        return True

    def stop(self, transport: VirtualTransport, reason: str = "SIGTERM") -> None:
        """Ask a party to end, as the service manager does."""
        self._hand_over(self._parties[transport], StopRequested(reason))

    def crash(self, transport: VirtualTransport, *, silently: bool = False) -> None:
        """End a party's process here and now; `silently`: with its machine, so that only the keep-alive tells."""
        party = self._parties.pop(transport)
        party.present = False
        party.transport.vanish(silently=silently)
        party.jobs.close()

    def cut(self, transport: VirtualTransport) -> None:
        """Break a party's connection; it may connect again at once."""
        transport.break_off("the connection was reset")

    def is_present(self, transport: VirtualTransport) -> bool:
        """False once a party has ended, by itself or not."""
        return transport in self._parties

    def set_clock(self, transport: VirtualTransport, utc_offset_s: float) -> None:
        """Make a party's wall clock jump to so many seconds beside the right time."""
        self._parties[transport].utc_offset_s = utc_offset_s

    def partition(self, transport: VirtualTransport, duration_s: float) -> None:
        """Take a party out of reach."""
        transport.lose_contact(self._schedule.now_s + duration_s)

    def restart_broker(self, down_s: float = 1.0, *, keep_retained: bool = True) -> None:
        """Stop the broker, and start it again some time later."""
        if self._medium.broker_up:
            self._medium.broker_up = False
            self._broker.shut_down(self._schedule.now_s, keep_retained=keep_retained)
            self._schedule.after(down_s, self._start_broker)

    def _start_broker(self) -> None:
        self._medium.broker_up = True

    def _carry_out(self, action: Callable[[], None]) -> None:
        self._planned -= 1
        action()

    def _all_finished(self) -> bool:
        return not self._parties and self._planned == 0

    def _hand_over(self, party: _Party, event: Event) -> None:
        if party.present:
            party.service.on_event(event, self._now_for(party))
            self._look_after(party)

    def _wake(self, party: _Party, alarm_s: float) -> None:
        if not party.present or alarm_s != party.alarm_s:
            return
        party.alarm_s = math.inf
        if party.service.wake_at_s() <= self._schedule.now_s:
            party.service.on_time(self._now_for(party))
        self._look_after(party)

    def _look_after(self, party: _Party) -> None:
        if not party.present:
            return
        if party.service.finished:
            party.present = False
            del self._parties[party.transport]
            party.transport.close()
            party.jobs.close()
        else:
            self._set_alarm(party)

    def _set_alarm(self, party: _Party) -> None:
        wake_at_s = max(party.service.wake_at_s(), self._schedule.now_s)
        if wake_at_s < party.alarm_s:
            party.alarm_s = wake_at_s
            self._schedule.at(wake_at_s, self._wake, party, wake_at_s)

    def _now_for(self, party: _Party) -> Instant:
        now_s = self._schedule.now_s
        return Instant(now_s, now_s + self._utc_ahead_s + party.utc_offset_s)

    def _plan_partition(self) -> None:
        pause_s, draw, duration_s = self._adversary.next_partition()
        self._schedule.after(pause_s, self._do_partition, draw, duration_s)

    def _do_partition(self, draw: float, duration_s: float) -> None:
        if self._schedule.now_s < self._adversary.faults.until_s:
            if self._parties:
                self.partition(list(self._parties)[int(draw * len(self._parties))], duration_s)
            self._plan_partition()

    def _plan_restart(self) -> None:
        pause_s, down_s, keep_retained = self._adversary.next_restart()
        self._schedule.after(pause_s, self._do_restart, down_s, keep_retained)

    def _do_restart(self, down_s: float, keep_retained: bool) -> None:
        if self._schedule.now_s < self._adversary.faults.until_s:
            self.restart_broker(down_s, keep_retained=keep_retained)
            self._plan_restart()
