"""What test beds are called."""

import pytest

from tests.testbed.names import HOSTS, Names, TestbedError, address, names

_LONGEST_INTERFACE_NAME = 15


@pytest.mark.parametrize("host", HOSTS)
def test_interface_name_fits_what_the_kernel_takes(host: str) -> None:
    assert len(Names("abcde").interface(host)) <= _LONGEST_INTERFACE_NAME


@pytest.mark.parametrize("identity", ["", "abcdef", "a-b", "ä", "../x"])
def test_identity_is_refused_when_it_is_no_short_word(identity: str) -> None:
    with pytest.raises(TestbedError, match="TESTBED_NAME"):
        Names(identity)


def test_tests_have_a_test_bed_of_their_own_whatever_a_person_has_named_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTBED_NAME", "mine")

    assert names().identity == "mine"
    assert names("proofs").identity not in {"mine", names("hosts").identity}


def test_hosts_have_addresses_of_their_own() -> None:
    assert len({address(host) for host in HOSTS}) == len(HOSTS)
