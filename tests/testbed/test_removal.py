"""A device leaves the federation for another use: one playbook, and it is as it was before."""

from tests.testbed.federation import Federation
from tests.testbed.names import PIS
from tests.testbed.test_revocation import STOLEN
from tests.testbed.traces import Traces, traces

REMOVED = "pi3"
OTHERS = tuple(host for host in PIS if host not in (REMOVED, STOLEN))


def test_removed_device_is_as_it_was_before_and_the_others_go_on(
    untouched: dict[str, Traces], federation: Federation
) -> None:
    processes = {host: federation.process_of_agent(host) for host in OTHERS}

    recap = federation.playbooks.run("playbooks/remove-agent.yml", "-e", f"agent={REMOVED}")

    assert recap.exit_code == 0, recap.end
    after = traces(federation.bed, REMOVED)
    assert after.without(untouched[REMOVED]) == {}
    assert untouched[REMOVED].without(after) == {}
    assert not (federation.playbooks.secrets / "certificates" / f"{REMOVED}.key").exists()
    assert {host: federation.process_of_agent(host) for host in OTHERS} == processes
    federation.wait_until_agents_are_connected(*OTHERS)
