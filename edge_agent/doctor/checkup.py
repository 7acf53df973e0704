"""Runs the doctor's checks in the order in which their subjects depend on one another."""

from collections.abc import Callable, Iterator
from pathlib import Path

from edge_agent import device_lock, sensors
from edge_agent.config import AgentConfig
from edge_agent.doctor import broker, device
from edge_agent.doctor.findings import Finding, Status, ok, problem, skipped
from schemas.errors import ConfigError, StorageError
from transport.settings import load_settings

Announce = Callable[[str], None]


def examine(
    config_file: Path, model: str | None, *, ask_coordinator: bool, announce: Announce = lambda _: None
) -> Iterator[Finding]:
    """Everything that the doctor finds, one by one.

    Args:
        config_file: of the agent.
        model: that the room's data has to fit; None to leave that out.
        ask_coordinator: see `broker.check_session`.
        announce: told what is looked at next, as some checks take seconds.
    """
    try:
        config = load_settings(AgentConfig, config_file)
    except ConfigError as error:
        yield problem("configuration", str(error), "correct the file; examples/agent.toml explains every key")
        return
    yield ok("configuration", f"{config_file}, agent {config.agent_id}, prefix {config.broker.prefix}")
    yield device.check_user()
    announce("reading the room's data")
    data = device.check_data(config)
    yield data
    yield device.check_state(config)
    yield device.check_disk(config)
    yield device.check_memory()
    yield device.check_limits()
    yield device.check_sensors(sensors.cpu_temperature_c(), sensors.throttled())
    yield device.check_clock()
    announce("loading PyTorch")
    torch = device.check_torch()
    yield torch
    if Status.PROBLEM in (torch.status, data.status):
        yield skipped("model", "needs the data and PyTorch")
    else:
        announce("trying the model on the room's data")
        yield device.check_model(config, model)
    announce(f"connecting to {config.broker.host}:{config.broker.port}")
    yield from _examine_broker(config, ask_coordinator=ask_coordinator)


def _examine_broker(config: AgentConfig, *, ask_coordinator: bool) -> Iterator[Finding]:
    reach = broker.check_reach(config)
    yield reach
    if reach.status is Status.PROBLEM:
        yield skipped("login", "the broker cannot be reached")
        return
    tls = broker.check_tls(config)
    yield from tls
    if any(finding.status is Status.PROBLEM for finding in tls):
        yield skipped("login", "TLS does not work yet")
        return
    try:
        pid = device_lock.holder(config.state_folder)
    except StorageError as error:
        why = f"nobody can tell whether the agent is running: {error}"
        yield skipped("login", why, "ask again as the agent's user")
        return
    if pid is not None:
        who = f"the agent is running (pid {pid})" if pid else "the agent is running"
        why = f"{who}, and a second connection could throw it out"
        yield skipped("login", why, "its log says whether it is connected; to check more, stop it and ask again")
        return
    yield from broker.check_session(config, ask_coordinator=ask_coordinator)
