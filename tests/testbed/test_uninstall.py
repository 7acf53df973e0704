"""The federation goes, and leaves the hosts as they were."""

import json

from tests.testbed.federation import Federation
from tests.testbed.names import HOSTS, SERVER
from tests.testbed.older_broker import MESSAGE, message_of_older_broker
from tests.testbed.traces import Traces, traces


def test_uninstall_leaves_nothing_behind_and_takes_nothing_along(
    untouched: dict[str, Traces], federation: Federation
) -> None:
    recap = federation.playbooks.run("playbooks/uninstall.yml", "-e", "sure=yes")

    assert recap.exit_code == 0, recap.end
    after = {host: traces(federation.bed, host) for host in HOSTS}
    left = {host: found for host in HOSTS if (found := after[host].without(untouched[host]))}
    lost = {host: found for host in HOSTS if (found := untouched[host].without(after[host]))}
    assert not left, f"left behind: {json.dumps(left, indent=1)}"
    assert not lost, f"taken along: {json.dumps(lost, indent=1)}"
    assert message_of_older_broker(federation.bed, SERVER) == MESSAGE
