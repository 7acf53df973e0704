"""Before anything is installed: what an operator sees who first asks what the playbook would do."""

from tests.testbed.federation import Federation
from tests.testbed.names import HOSTS


def test_check_mode_on_bare_hosts_goes_through_and_changes_nothing(bare: Federation) -> None:
    recap = bare.playbooks.run("site.yml", "--check", "--diff")

    assert recap.exit_code == 0, recap.end
    changed = recap.count("changed")
    assert set(changed) == set(HOSTS)
    assert all(changed.values()), recap.end
    for host in HOSTS:
        bare.bed.on(host, "! test -e /etc/federation && ! test -e /opt/federation && ! id edge-agent 2>/dev/null")
