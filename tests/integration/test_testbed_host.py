"""One host of the test bed boots, lets us in and goes without a trace; what it is for is proven in tests/testbed."""

import pytest

from tests.testbed.bed import Bed
from tests.testbed.names import names
from tests.testbed.remains import remains
from tests.testbed.requirements import require_hosts

NAMES = names("one host")


@pytest.mark.timeout(300)
def test_host_boots_and_leaves_nothing_behind_when_it_goes() -> None:
    require_hosts()
    bed = Bed(NAMES, ("pi1",))
    try:
        bed.up()
        assert bed.on("pi1", "systemctl is-system-running --wait; id -un") == "running\nroot\n"
    finally:
        bed.down()

    assert remains(NAMES) == []
