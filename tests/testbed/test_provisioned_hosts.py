"""After one run of the playbook: all is in service, a run reaches its target, and a second one has nothing to do."""

import json

from tests.testbed.federation import BROKER_PORT, TARGET_ACCURACY, Federation, Run
from tests.testbed.names import HOSTS, PIS, SERVER
from tests.testbed.provisioning import ALONE


def test_agents_of_all_devices_are_in_service_and_connected(federation: Federation) -> None:
    assert {host: federation.unit_state(host, "edge-agent") for host in PIS} == dict.fromkeys(PIS, "active")
    assert federation.unit_state(SERVER, "mosquitto") == "active"
    federation.wait_until_agents_are_connected()


def test_doctor_finds_nothing_wrong_on_any_device(federation: Federation) -> None:
    for host in PIS:
        findings = json.loads(federation.bed.on(host, "edge-agent doctor --json"))["findings"]
        assert [finding for finding in findings if finding["status"] == "problem"] == []


def test_no_unit_has_failed_on_any_host(federation: Federation) -> None:
    for host in HOSTS:
        assert federation.bed.on(host, "systemctl --failed --no-legend --plain") == ""


def test_device_without_anything_lent_has_installed_all_of_it_itself(federation: Federation) -> None:
    where = "/opt/federation/edge-agent/current/bin/python -c 'import torch; print(torch.__file__)'"

    assert federation.bed.on(ALONE, where).startswith("/opt/federation/")
    assert federation.bed.on("pi1", where).startswith("/srv/site/")


def test_run_reaches_its_target_with_every_device_in_every_round(finished: Run) -> None:
    rounds = finished.rounds()

    assert "target-reached" in finished.events()
    assert rounds[-1].accuracy is not None
    assert rounds[-1].accuracy >= TARGET_ACCURACY
    assert all(each.accepted == PIS for each in rounds)


def test_broker_listens_with_tls_alone(federation: Federation, finished: Run) -> None:
    listening = federation.bed.on(SERVER, "ss --no-header --tcp --listening --numeric --processes").splitlines()
    ports = [line.split()[3].rpartition(":")[2] for line in listening if "mosquitto" in line]

    assert set(ports) == {str(BROKER_PORT)}
    assert finished.rounds() != []


def test_unit_of_a_run_is_gone_once_the_run_is_over(federation: Federation, finished: Run) -> None:
    enabled = federation.bed.on(SERVER, f"systemctl is-enabled coordinator-run@{finished.run_id} || true").strip()

    assert enabled != "enabled"


def test_private_keys_are_readable_by_their_service_alone(federation: Federation) -> None:
    for host in HOSTS:
        assert federation.bed.on(host, "find /etc/federation -name '*.key' -perm /077") == ""


def test_secrets_on_the_control_machine_are_readable_by_their_owner_alone(federation: Federation) -> None:
    secrets = federation.playbooks.secrets

    keys = list(secrets.rglob("*.key"))
    assert len(keys) >= len(PIS) + 3
    assert {key.stat().st_mode & 0o077 for key in keys} == {0}


def test_second_run_of_the_playbook_changes_nothing(federation: Federation, finished: Run) -> None:
    assert finished.rounds() != []

    recap = federation.playbooks.run("site.yml")

    assert recap.exit_code == 0, recap.end
    assert recap.count("changed") == dict.fromkeys(HOSTS, 0), recap.end
