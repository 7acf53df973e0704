"""What several suites share: a real broker for the whole test session, and real MNIST."""

import os
import signal
from collections.abc import Iterator

import pytest

from learning.datasets import Dataset, load_dataset
from learning.mnist import find_mnist
from mosquitto.broker import BrokerMissingError, PrivateBroker, find_mosquitto

BROKER_USERS = ("coordinator", "monitor", "pi-1", "pi-2", "pi-3", "pi-4", "pi-5")


def pytest_configure() -> None:
    """What is started in the background has interrupts ignored, and hands that on: the tests send some."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def mosquitto_program() -> str:
    """Path of Mosquitto. Where it is missing the test is skipped, but in CI it fails."""
    try:
        return find_mosquitto()
    except BrokerMissingError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def broker(mosquitto_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateBroker]:
    """A broker with passwords and ACL that all tests share: leave it running, and clear what you retain."""
    assert mosquitto_program
    passwords = {user: f"password of {user}" for user in BROKER_USERS}
    with PrivateBroker(tmp_path_factory.mktemp("broker"), passwords) as private_broker:
        yield private_broker


@pytest.fixture(scope="session")
def mnist() -> Dataset:
    """MNIST as found on this machine. Where there is none the test is skipped, but in CI it fails."""
    if find_mnist() is None:
        if os.environ.get("CI"):
            pytest.fail("no copy of MNIST: set FEDERATION_DATA")
        pytest.skip("no copy of MNIST: set FEDERATION_DATA or put one into ../shared/data")
    return load_dataset("mnist")
