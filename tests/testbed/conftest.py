"""What the tests on real hosts share."""

import pytest

from tests.testbed.requirements import require_hosts


@pytest.fixture(scope="session")
def can_boot_hosts() -> None:
    """Hosts can boot on this machine."""
    require_hosts()
