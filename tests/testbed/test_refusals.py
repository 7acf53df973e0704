"""Who may not take part: each attempt is refused, and the broker's log says so."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.integration.certificates import Authority
from tests.testbed.federation import Federation
from tests.testbed.refusals import authority_option, identity, publish, wait_for_broker_to_say

FORGED_TOPIC = "fl/v1/agents/pi2/status"


@pytest.fixture
def silent(federation: Federation) -> Iterator[str]:
    """A device whose agent is off, so that its certificate can be used without throwing the agent out."""
    federation.bed.on("pi1", "systemctl stop edge-agent")
    yield "pi1"
    federation.bed.on("pi1", "systemctl start edge-agent")
    federation.wait_until_agents_are_connected("pi1")


def test_certificate_of_one_agent_cannot_write_to_anothers_topics(federation: Federation, silent: str) -> None:
    before = federation.broker_log()

    own = publish(federation, f"fl/v1/agents/{silent}/status", *identity(federation, silent))
    forged = publish(federation, FORGED_TOPIC, *identity(federation, silent))

    assert "Not authorized" not in own.stdout + own.stderr
    assert "Not authorized" in forged.stdout + forged.stderr
    wait_for_broker_to_say(federation, before, "Denied PUBLISH", silent, FORGED_TOPIC)


@pytest.mark.parametrize("attempt", ["no certificate", "foreign authority", "plain MQTT"])
def test_connection_is_refused_and_logged(federation: Federation, attempt: str, tmp_path: Path) -> None:
    options: Sequence[str] = ()
    if attempt == "no certificate":
        options = authority_option(federation)
    if attempt == "foreign authority":
        forged = Authority(tmp_path / "foreign", "Federation authority").issue("pi1")
        options = (*authority_option(federation), "--cert", str(forged.certificate_file), "--key", str(forged.key_file))
    before = federation.broker_log()

    done = publish(federation, FORGED_TOPIC, *options)

    assert done.returncode != 0
    assert "PUBACK" not in done.stdout + done.stderr
    wait_for_broker_to_say(federation, before, "rror")
