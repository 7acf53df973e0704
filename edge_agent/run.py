"""Put an agent together: engine, connection, state folder and trainer. No decisions here."""

import logging
import secrets
from dataclasses import dataclass

from edge_agent.config import AgentConfig
from edge_agent.engine import ParticipantEngine
from edge_agent.service import AgentService, Outside
from edge_agent.spool import Spool
from edge_agent.trainer import RoomTrainer
from learning.threads import use_threads
from schemas import wire
from schemas.measures import Traffic
from schemas.messages import AgentStatus
from schemas.topics import Address, Kind
from transport.driver import drive
from transport.jobs import ThreadJobs
from transport.mqtt import MqttTransport
from transport.ports import Message, SessionSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AgentResult:
    """How an agent's process ended.

    Attributes:
        traffic: all that it sent and received.
        taken_over: another process has connected under its id.
    """

    traffic: Traffic
    taken_over: bool


def run(config: AgentConfig) -> AgentResult:
    """Run the agent until it is told to stop.

    Raises:
        FederationError: the data, the state folder or the broker's settings cannot be used.
    """
    from learning.folders import load_folder  # noqa: PLC0415

    examples = load_folder(config.data_folder)  # before torch: a service manager starts us again until they are there
    log.info("PyTorch computes with %d threads", use_threads(config.threads))
    topics, agent_id = config.broker.topics, config.agent_id
    spool = Spool(config.state_folder, agent_id)
    run_id, pending, carries = spool.load()
    instance = secrets.token_hex(6)
    earlier = spool.note_start(instance)
    engine = ParticipantEngine(agent_id, instance, pending, carries, run_id, spool.load_model(), earlier)
    gone = wire.encode(AgentStatus(state="offline", instance=instance))
    session = SessionSpec(
        name=agent_id,
        filters=tuple(topics.agent_filters(agent_id)),
        will=Message(topics.build(Address(Kind.STATUS, agent_id)), gone, retain=True),
    )
    transport = MqttTransport(session, config.broker.address())
    jobs = ThreadJobs()
    trainer = RoomTrainer(agent_id, examples, config.model_path)
    service = AgentService(engine, Outside(topics, agent_id, transport, jobs, spool, trainer))
    drive(service, transport, jobs)
    return AgentResult(transport.traffic, service.taken_over)
