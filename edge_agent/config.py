"""The configuration of an edge agent: a TOML file, checked key by key."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from schemas.identifiers import AgentId
from transport.settings import BrokerSection, FileSettings


class AgentConfig(FileSettings):
    """Everything about one agent.

    Attributes:
        agent_id: this device's name, also its MQTT user and the common name of its certificate.
        data_folder: the room's data, written beforehand; never leaves the device.
        state_folder: where the agent keeps its update until the round is closed.
        model_path: the folder of the operator's own models; without it only built-in models are trained.
        threads: CPU threads for training, at most the cores that it may use, whatever stands here. Other numbers may
            give other last bits.
    """

    model_config = SettingsConfigDict(env_prefix="EDGE_AGENT_")

    agent_id: AgentId
    data_folder: Path
    state_folder: Path
    model_path: Path | None = None
    threads: int = Field(1, ge=1, le=64)
    broker: BrokerSection = BrokerSection()
