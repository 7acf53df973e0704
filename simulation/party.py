"""Agents as parties of the in-memory network: the real engine and service, with memory instead of a disk."""

from edge_agent.engine import ParticipantEngine
from edge_agent.events import Measured
from edge_agent.service import AgentService, Outside
from edge_agent.trainer import RoundTrainer
from schemas import wire
from schemas.measures import Traffic
from schemas.messages import AgentStatus
from schemas.topics import Address, Kind, Topics
from simulation.connection import VirtualTransport
from simulation.jobs import Duration
from simulation.memory import MemorySpool
from simulation.network import VirtualNetwork
from transport.ports import Message, SessionSpec


def add_agent(  # noqa: PLR0913, PLR0917 - what makes up an agent
    network: VirtualNetwork,
    topics: Topics,
    trainer: RoundTrainer,
    agent_id: str,
    spool: MemorySpool,
    duration_s: Duration,
    instance: str,
) -> VirtualTransport:
    """Let an agent join, with what its spool remembers; its transport is the handle to crash or stop it."""
    run_id, pending, carries = spool.load()
    engine = ParticipantEngine(agent_id, instance, pending, carries, run_id, spool.model)
    gone = wire.encode(AgentStatus(state="offline", instance=instance))
    session = SessionSpec(
        name=agent_id,
        filters=tuple(topics.agent_filters(agent_id)),
        will=Message(topics.build(Address(Kind.STATUS, agent_id)), gone, retain=True),
    )
    transport = network.transport(session, agent_id)
    jobs = network.jobs(duration_s)
    service = AgentService(engine, Outside(topics, agent_id, transport, jobs, spool, trainer, _measure))
    network.add(service, transport, jobs)
    return transport


def _measure(run_id: str, round_number: int, traffic: Traffic) -> Measured:
    return Measured(run_id, round_number, traffic, cpu_s=0.0, peak_rss_bytes=0)
