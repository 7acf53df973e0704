"""Power comes and goes: hosts come back by themselves, and a run that is on goes on."""

from tests.testbed.federation import Federation
from tests.testbed.names import PIS, SERVER

NUM_ROUNDS = 20
"""Few are over when the server goes, as every round waits for the devices that are away."""


def test_run_finishes_though_a_device_and_the_server_reboot_and_another_loses_its_power(federation: Federation) -> None:
    """The server holds broker, coordinator and database: the run's own unit has to resume it."""
    bed = federation.bed
    run = federation.start_run("reboots", {"count": NUM_ROUNDS}, local_batches=20)
    run.wait_for_round(2)

    bed.machines["pi1"].reboot()
    bed.machines["pi2"].power_cut()
    bed.machines["pi2"].boot()
    bed.wait_for_ssh("pi1", "pi2")
    at_reboot = run.rounds()[-1].round_number
    bed.machines[SERVER].reboot()
    bed.wait_for_ssh(SERVER)

    run.wait_until_finished()
    rounds = run.rounds()
    assert at_reboot < NUM_ROUNDS
    assert "resumed" in run.events()
    assert [each.round_number for each in rounds] == list(range(1, NUM_ROUNDS + 1))
    assert all(each.accepted == PIS for each in rounds)
    assert {host: federation.unit_state(host, "edge-agent") for host in PIS} == dict.fromkeys(PIS, "active")
    assert federation.unit_state(SERVER, "mosquitto") == "active"
