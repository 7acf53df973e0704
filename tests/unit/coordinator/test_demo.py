"""What the demo decides before anything is started: which data, and whether the settings can work at all."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coordinator import demo
from coordinator.demo import DemoSettings, check_settings, load_demo_data
from learning.datasets import Dataset, Examples
from learning.mnist import DatasetUnavailable
from mosquitto.broker import BrokerMissingError
from schemas.errors import ConfigError, DataError

SETTINGS = DemoSettings(runs_folder=Path("runs"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The data sets that were asked for, on a machine without MNIST and without a network."""
    names: list[str] = []

    def load(name: str, data: Path | None = None) -> Dataset:
        names.append(name)
        if name.startswith("mnist"):
            raise DataError(f"no MNIST in {data}") if data else DatasetUnavailable("no network")
        examples = Examples(np.zeros((1, 2), np.uint8), np.zeros(1, np.int64), 10, name)
        return Dataset(examples, examples)

    monkeypatch.setattr(demo, "load_dataset", load)
    return names


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("cnn", ["mnist", "digits"]),
        ("mlp", ["mnist-rgb32", "digits-rgb32"]),
        ("lstm", ["sequences"]),
    ],
)
def test_bundled_digits_stand_in_when_mnist_cannot_be_had(asked: list[str], model: str, expected: list[str]) -> None:
    _, name = load_demo_data(replace(SETTINGS, model=model))

    assert asked == expected
    assert name == expected[-1]


def test_folder_that_the_user_named_is_not_silently_replaced(asked: list[str], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no MNIST in"):
        load_demo_data(replace(SETTINGS, data=tmp_path))

    assert asked == ["mnist"]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (replace(SETTINGS, strategy="fedavgg"), "there is no strategy 'fedavgg'"),
        (replace(SETTINGS, codec="zip"), "codec 'zip': expected fp32, fp16"),
        (replace(SETTINGS, learning_rate=-1.0), "training.learning_rate: expected more than 0"),
        (replace(SETTINGS, target_accuracy=0.0), "rounds.target_accuracy: expected more than 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(changed: DemoSettings, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_settings(changed)

    assert expected in str(caught.value)


def test_missing_mosquitto_is_noticed_before_the_data_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise BrokerMissingError("Mosquitto is not installed: run 'sudo apt install mosquitto'")

    monkeypatch.setattr(demo, "find_mosquitto", missing)

    with pytest.raises(BrokerMissingError, match="sudo apt install"):
        check_settings(SETTINGS)
