"""Certificates are about to run out, and the operator's own passwords come from Ansible Vault."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.testbed.federation import Federation
from tests.testbed.names import PIS, SERVER, TestbedError

RENEWED = "pi1"
CERTIFICATES = ("broker", "coordinator", "influxdb", RENEWED)
LONGER_THAN_VALID_DAYS = 731
IN_USE = "openssl x509 -noout -serial -in /etc/federation/edge-agent/tls/agent.crt"
PASSWORD = "bGVhdmVzIG9uIHRoZSByb29m"


@pytest.fixture
def vault(tmp_path: Path) -> tuple[str, ...]:
    """Options that bring the reader's password from a file that only who knows another password can read."""
    key, secret = tmp_path / "vault-password", tmp_path / "vault.yml"
    key.write_text("of the vault\n")
    secret.write_text(f"influxdb_reader_password: {PASSWORD}\n")
    ansible_vault = Path(sys.executable).with_name("ansible-vault")
    subprocess.run([ansible_vault, "encrypt", "--vault-password-file", key, secret], check=True, capture_output=True)
    assert PASSWORD not in secret.read_text()
    return "-e", f"@{secret}", "--vault-password-file", str(key)


def test_certificates_are_renewed_and_a_vaults_password_is_set_while_the_federation_works(
    federation: Federation, vault: tuple[str, ...]
) -> None:
    folder = federation.playbooks.secrets / "certificates"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    serial = federation.bed.on(RENEWED, IN_USE)
    renew = ("--limit", f"{SERVER},{RENEWED}", "-e", f"identity_renew_days={LONGER_THAN_VALID_DAYS}")

    recap = federation.playbooks.run("site.yml", *renew, *vault)

    assert recap.exit_code == 0, recap.end
    changed = {path.name for path in folder.iterdir() if path.read_bytes() != before[path.name]}
    assert changed >= {f"{name}.crt" for name in CERTIFICATES}
    assert not any(name.endswith(".key") for name in changed)
    assert federation.bed.on(RENEWED, IN_USE) != serial
    federation.wait_until_agents_are_connected()

    run = federation.start_run("renewed", {"count": 2}, local_batches=4)
    run.wait_until_finished()
    assert all(each.accepted == PIS for each in run.rounds())
    assert PASSWORD not in recap.said
    assert federation.query("SHOW MEASUREMENTS", password=PASSWORD) != []
    with pytest.raises(TestbedError, match="401"):
        federation.query("SHOW MEASUREMENTS")
