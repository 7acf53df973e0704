"""A device is lost or stolen: the operator shuts it out, and the others notice nothing."""

import shutil
from pathlib import Path

from tests.testbed.federation import Federation, wait_until
from tests.testbed.names import PIS
from tests.testbed.refusals import authority_option, publish, wait_for_broker_to_say

STOLEN = "pi4"
OTHERS = tuple(host for host in PIS if host != STOLEN)


def test_revoked_device_is_cut_off_and_refused_while_the_others_go_on(federation: Federation, tmp_path: Path) -> None:
    certificates = federation.playbooks.secrets / "certificates"
    kept = [Path(shutil.copy(certificates / f"{STOLEN}.{kind}", tmp_path)) for kind in ("crt", "key")]
    processes = {host: federation.process_of_agent(host) for host in OTHERS}
    before = federation.broker_log()

    recap = federation.playbooks.run("playbooks/revoke-agent.yml", "-e", f"agent={STOLEN}")

    assert recap.exit_code == 0, recap.end
    wait_until(lambda: not federation.is_connected(STOLEN), f"the agent of {STOLEN} to be cut off")
    refused = publish(
        federation,
        f"fl/v1/agents/{STOLEN}/status",
        *(*authority_option(federation), "--cert", str(kept[0]), "--key", str(kept[1])),
    )
    assert refused.returncode != 0
    assert "PUBACK" not in refused.stdout + refused.stderr
    wait_for_broker_to_say(federation, before, "certificate")

    run = federation.start_run("revoked", {"count": 3}, local_batches=4, agents=OTHERS)
    run.wait_until_finished()
    assert all(each.accepted == OTHERS for each in run.rounds())
    assert {host: federation.process_of_agent(host) for host in OTHERS} == processes
    said = federation.broker_log().removeprefix(before).splitlines()
    assert [line for line in said if "Client " in line and any(f" {host} " in line for host in OTHERS)] == []
