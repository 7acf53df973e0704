"""Checks of the way to the broker: reachable, TLS, login, and what topics this device may use.

Rights are shown by what is delivered and by what the broker says to a publish, never by its answer to a subscription:
Mosquitto grants any of those. The only topic that is written is the agent's own status, to say that it is offline,
which is true: nothing here runs beside a running agent, as a second connection could throw it out.
"""

import contextlib
import logging
import secrets
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from edge_agent.config import AgentConfig
from edge_agent.doctor.certificates import Certificate, read_certificates
from edge_agent.doctor.findings import Finding, note, ok, problem, skipped, warning
from edge_agent.identity import VISITOR
from schemas import wire
from schemas.errors import FederationError, PayloadError
from schemas.messages import AgentStatus, CoordinatorStatus
from schemas.topics import Address, Kind
from transport.address import BrokerAddress, explain
from transport.mqtt import MqttTransport
from transport.ports import Connected, Disconnected, Event, Message, Received, SessionSpec

CONNECT_LIMIT_S = 5.0
RETAINED_LIMIT_S = 2.0
ANSWER_LIMIT_S = 5.0
EXPIRES_SOON = timedelta(days=30)
_NO_PORT_FIX = "is the broker running, and is broker.port right? A firewall may be in between"


class _Visit:
    """A connection for the length of the examination, and what has arrived on it and was not looked at yet."""

    def __init__(self, transport: MqttTransport) -> None:
        self._transport = transport
        self._events: deque[Event] = deque()

    def publish(self, message: Message) -> None:
        self._transport.publish(message)

    def wait_for(self, wanted: Callable[[Event], bool], limit_s: float) -> Event | None:
        """The first event that is wanted; None when none comes in time, or the connection is lost before."""
        give_up_s = time.monotonic() + limit_s
        while True:
            while self._events:
                event = self._events.popleft()
                if wanted(event):
                    return event
                if isinstance(event, Disconnected):
                    return None
            left_s = give_up_s - time.monotonic()
            if left_s <= 0:
                return None
            self._events.extend(self._transport.poll(left_s))

    def wait_for_message(self, topic_start: str, limit_s: float) -> Message | None:
        """The first message below a topic."""
        event = self.wait_for(lambda e: isinstance(e, Received) and e.message.topic.startswith(topic_start), limit_s)
        return event.message if isinstance(event, Received) else None


def check_reach(config: AgentConfig) -> Finding:
    """A TCP connection to the broker can be opened."""
    host, port = config.broker.host, config.broker.port
    begin_s = time.monotonic()
    try:
        with socket.create_connection((host, port), timeout=CONNECT_LIMIT_S):
            took_ms = 1000 * (time.monotonic() - begin_s)
    except socket.gaierror as error:
        return problem("broker", explain(error, BrokerAddress(host, port)), "correct broker.host, or the device's DNS")
    except OSError as error:
        return problem("broker", explain(error, BrokerAddress(host, port)), _NO_PORT_FIX)
    return ok("broker", f"{host}:{port} can be reached in {took_ms:.1f} ms")


def check_tls(config: AgentConfig, now: datetime | None = None) -> list[Finding]:
    """The TLS files can be used and are in date, and the broker's certificate is accepted.

    Args:
        now: for the dates; the clock's when None.
    """
    broker = config.broker
    if broker.ca is None:
        return [note("TLS", "not used, as the broker is this machine")]
    now = now or datetime.now(UTC)
    try:
        tls = config.broker.address().tls
        context = tls.context() if tls is not None else ssl.create_default_context()
    except FederationError as error:
        return [
            problem("TLS files", str(error), "copy the files again; the user of the agent must be able to read them")
        ]
    findings = [_check_dates("authority", broker.ca, now)]
    if broker.cert is not None and broker.key is not None:
        findings += [_check_own(config, broker.cert, now), _check_key_mode(broker.key)]
    return [*findings, _check_handshake(config, context, now)]


def check_session(config: AgentConfig, *, ask_coordinator: bool) -> list[Finding]:
    """Log in as the agent, and find out what it may read and write.

    Args:
        ask_coordinator: also introduce the device to the coordinator, who may then count on it for a round.
    """
    instance = VISITOR + secrets.token_hex(6)
    status_topic = config.broker.topics.build(Address(Kind.STATUS, config.agent_id))
    offline = Message(status_topic, wire.encode(AgentStatus(state="offline", instance=instance)), retain=True)
    session = SessionSpec(
        name=f"{config.agent_id}-doctor",
        filters=tuple(config.broker.topics.agent_filters(config.agent_id)),
        will=offline,
        session_expiry_s=0,
    )
    try:
        transport = MqttTransport(session, config.broker.address())
    except FederationError as error:
        return [problem("login", str(error), "correct broker.password_file: its first line is the password")]
    with _refusals() as refused:
        try:
            visit = _Visit(transport)
            login = _log_in(config, visit)
            if login.fix:
                return [login]
            status = _coordinator_status(config, visit)
            asked = _ask(config, visit, instance, status) if ask_coordinator else None
            visit.publish(offline)
        finally:
            transport.close()  # after the broker has answered
    return [login, _reading(config, status), _writing(config, refused), *([asked] if asked else [])]


def _check_dates(check: str, path: Path, now: datetime) -> Finding:
    try:
        certificates = read_certificates(path)
    except FederationError as error:
        return problem(check, str(error), "copy the file again")
    return _dates(check, min(certificates, key=lambda found: found.not_after), str(path), now)


def _check_own(config: AgentConfig, path: Path, now: datetime) -> Finding:
    finding = _check_dates("certificate", path, now)
    if finding.fix:
        return finding
    name = read_certificates(path)[0].common_name
    if name != config.agent_id:
        return problem(
            "certificate",
            f"{path} is for {name!r}, but agent_id is {config.agent_id!r}: the broker goes by the certificate",
            "use this device's own certificate, or correct agent_id",
        )
    return finding


def _check_key_mode(path: Path) -> Finding:
    if path.stat().st_mode & 0o077:
        return warning("key", f"other users of this device can read {path}", f"chmod 600 {path}")
    return ok("key", f"{path} is readable by its owner alone")


def _check_handshake(config: AgentConfig, context: ssl.SSLContext, now: datetime) -> Finding:
    broker = config.broker
    try:
        with (
            socket.create_connection((broker.host, broker.port), timeout=CONNECT_LIMIT_S) as plain,
            context.wrap_socket(plain, server_hostname=broker.host) as encrypted,
        ):
            peer = encrypted.getpeercert() or {}
            version = encrypted.version()
    except (OSError, ssl.CertificateError) as error:
        return problem("TLS", explain(error, BrokerAddress(broker.host, broker.port)), _handshake_fix(error))
    found = Certificate("", _peer_time(peer, "notBefore"), _peer_time(peer, "notAfter"))
    finding = _dates("TLS", found, "the broker's certificate", now)
    return finding if finding.fix else ok("TLS", f"{version}; {finding.detail}")


def _handshake_fix(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            "broker.ca must be the authority of the broker's certificate, broker.host a name or address that stands in "
            "it, and the clock right"
        )
    return "does broker.port speak TLS (8883 usually), and is our certificate from an authority that it knows?"


def _peer_time(peer: Mapping[str, object], key: str) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(peer[key])), UTC)


def _dates(check: str, certificate: Certificate, what: str, now: datetime) -> Finding:
    until = f"{certificate.not_after:%Y-%m-%d}"
    if now < certificate.not_before:
        since = f"{certificate.not_before:%Y-%m-%d}"
        return problem(
            check, f"{what} is valid only from {since}", "is the clock right? Otherwise wait, or issue it again"
        )
    if now > certificate.not_after:
        return problem(check, f"{what} was valid until {until}", "issue a new one; if the date is wrong, set the clock")
    if certificate.not_after - now < EXPIRES_SOON:
        return warning(check, f"{what} is valid only until {until}", "issue a new one before then")
    return ok(check, f"{what} is valid until {until}")


def _log_in(config: AgentConfig, visit: _Visit) -> Finding:
    found = visit.wait_for(lambda event: isinstance(event, Connected | Disconnected), 4 * CONNECT_LIMIT_S)
    user = config.broker.username or (f"the certificate's {config.agent_id}" if config.broker.cert else "nobody")
    match found:
        case Connected(max_packet_bytes=max_packet_bytes):
            largest = f"takes packets of up to {max_packet_bytes / 1e6:,.1f} MB"
            return ok("login", f"accepted as {user}; the broker {largest}")
        case Disconnected(reason=reason):
            return problem("login", reason, _login_fix(reason))
    return problem("login", "the broker did not answer", "look into the broker's log")


def _login_fix(reason: str) -> str:
    if "not authorized" in reason or "bad user" in reason:
        return "broker.username must be the agent_id and known to the broker, broker.password_file hold its password"
    if "asks for a certificate" in reason:
        return "set broker.cert and broker.key to this device's own"
    return "look into the broker's log for this moment"


def _coordinator_status(config: AgentConfig, visit: _Visit) -> CoordinatorStatus | None:
    """What the coordinator has last said of itself on this prefix; None when nothing arrives."""
    message = visit.wait_for_message(config.broker.topics.build(Address(Kind.COORDINATOR_STATUS)), RETAINED_LIMIT_S)
    try:
        return wire.decode(message.payload, CoordinatorStatus).message if message is not None else None
    except PayloadError:
        return None


def _reading(config: AgentConfig, status: CoordinatorStatus | None) -> Finding:
    prefix = config.broker.prefix
    if status is None:
        return note(
            "reading",
            f"nothing to read: no coordinator has been on prefix {prefix!r} since the broker started, or this user may "
            "not read it",
            "start a run, and ask again",
        )
    run = f", run {status.run_id}" if status.run_id else ""
    return ok("reading", f"the coordinator's status was delivered: {status.state}{run}")


def _writing(config: AgentConfig, refused: list[str]) -> Finding:
    if refused:
        return problem(
            "writing",
            refused[0],
            f"the broker's user must be {config.agent_id!r}, the agent_id, and its rights those of mosquitto/templates",
        )
    return ok("writing", "the broker took this device's status")


def _ask(config: AgentConfig, visit: _Visit, instance: str, status: CoordinatorStatus | None) -> Finding:
    if status is None or status.state != "online":
        return skipped("coordinator", "no coordinator is online to ask", "start a run, and ask again")
    topics = config.broker.topics
    inbox = topics.build(Address(Kind.STANDING, config.agent_id)).rpartition("/")[0] + "/"
    online = wire.encode(AgentStatus(state="online", instance=instance))
    visit.publish(Message(topics.build(Address(Kind.STATUS, config.agent_id)), online, retain=True))
    answer = visit.wait_for_message(inbox, ANSWER_LIMIT_S)
    if answer is None:
        return problem(
            "coordinator",
            f"it did not answer in {ANSWER_LIMIT_S:g} s",
            "is this agent_id among the run's allowed_agents, and may the broker's user read its own inbox?",
        )
    return ok("coordinator", "it answered this device: messages pass in both directions")


@contextlib.contextmanager
def _refusals() -> Iterator[list[str]]:
    """What the broker refuses; the transport tells it to the log alone, as nobody can act on it during a round."""
    refused: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "refused a message" in record.getMessage():
                refused.append(record.getMessage())

    collector = Collector(logging.WARNING)
    logger = logging.getLogger("transport")
    logger.addHandler(collector)
    try:
        yield refused
    finally:
        logger.removeHandler(collector)
