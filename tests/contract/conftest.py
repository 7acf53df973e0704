"""Every contract test runs twice: on the in-memory network and on a real Mosquitto."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mosquitto.broker import PrivateBroker
from tests.conftest import BROKER_USERS
from tests.contract.worlds import RealWorld, VirtualWorld, World


@pytest.fixture
def real_world(mosquitto_program: str, tmp_path: Path) -> Iterator[RealWorld]:
    assert mosquitto_program
    passwords = {user: f"password of {user}" for user in BROKER_USERS}
    with PrivateBroker(tmp_path / "broker", passwords) as broker:
        world = RealWorld(broker)
        yield world
        world.close()


@pytest.fixture(params=["virtual", "mosquitto"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "virtual":
        return VirtualWorld()
    real: RealWorld = request.getfixturevalue("real_world")
    return real
