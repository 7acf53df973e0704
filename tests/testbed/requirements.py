"""Whether this machine can boot hosts; where it cannot, a test is skipped aloud, and fails in CI."""

import os

import pytest

from tests.testbed import golden
from tests.testbed.bed import require_root_and_programs
from tests.testbed.names import TestbedError


def require_hosts() -> None:
    """Skip the test, or fail it where CI is set, unless hosts can boot here within seconds."""
    try:
        require_root_and_programs()
        if not golden.is_made():
            raise TestbedError("what the hosts start from has not been made yet: run scripts/testbed prepare")
    except TestbedError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
