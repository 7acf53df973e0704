"""What is read from ansible-playbook's output."""

from tests.testbed.provisioning import Recap

SAID = """
TASK [changed=5 is not a number of ours] ***
PLAY RECAP *********************************************************************
pi1                        : ok=30   changed=11   unreachable=0    failed=0    skipped=28   rescued=0    ignored=0
server                     : ok=34   changed=0    unreachable=0    failed=1    skipped=45   rescued=0    ignored=0

"""


def test_counts_are_those_of_the_recap_by_host() -> None:
    recap = Recap(2, SAID)

    assert recap.count("changed") == {"pi1": 11, "server": 0}
    assert recap.count("failed") == {"pi1": 0, "server": 1}


def test_counts_are_empty_when_the_playbook_did_not_get_that_far() -> None:
    assert Recap(4, "ERROR! the playbook could not be found").count("changed") == {}
