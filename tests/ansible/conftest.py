"""The rendered files, made once for all tests here."""

from pathlib import Path

import pytest

from tests.ansible.rendering import render_all


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the roles write with their defaults, by role and name, such as `edge_agent-agent.toml`."""
    return render_all(tmp_path_factory.mktemp("ansible"))
