"""Weights in and out of a module: exact, strict and independent of its memory layout."""

import numpy as np
import pytest
import torch
from torch import nn

from learning.models import build_model
from learning.parameters import get_weights, set_weights
from schemas.errors import DataError
from schemas.weights import Array


@pytest.mark.parametrize("name", ["cnn", "lstm", "mlp"])
def test_weights_survive_the_way_out_and_in_exactly(name: str) -> None:
    source, target = build_model(name, 1), build_model(name, 2)
    set_weights(target, get_weights(source))
    for key, tensor in source.state_dict().items():
        assert torch.equal(tensor, target.state_dict()[key])


def test_weights_are_c_contiguous_copies_when_the_module_is_channels_last() -> None:
    module = build_model("cnn", 1)
    weights = get_weights(module)
    before = weights["conv2.weight"].copy()
    with torch.no_grad():
        module.get_parameter("conv2.weight").zero_()
    assert not module.get_parameter("conv2.weight").is_contiguous()
    assert weights["conv2.weight"].flags.c_contiguous
    assert np.array_equal(weights["conv2.weight"], before)


def test_setting_keeps_the_modules_memory_layout_and_takes_any_of_the_arrays() -> None:
    module = build_model("cnn", 1)
    weights = {key: np.asfortranarray(array) for key, array in get_weights(build_model("cnn", 2)).items()}
    for array in weights.values():
        array.setflags(write=False)
    set_weights(module, weights)
    assert module.get_parameter("conv2.weight").is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(get_weights(module)["conv2.weight"], weights["conv2.weight"])


def test_counters_of_no_dimension_stay_so() -> None:
    module = nn.BatchNorm1d(3)
    module(torch.ones(2, 3))
    weights = get_weights(module)
    assert weights["num_batches_tracked"].shape == ()
    assert weights["num_batches_tracked"].dtype == np.int64
    fresh = nn.BatchNorm1d(3)
    set_weights(fresh, weights)
    assert fresh.num_batches_tracked == 1


WRONG: dict[str, tuple[dict[str, Array], str]] = {
    "missing": ({"weight": np.zeros((1, 2), np.float32)}, r"missing \['bias'\]"),
    "unknown": (
        {"weight": np.zeros((1, 2), np.float32), "bias": np.zeros(1, np.float32), "x": np.zeros(1)},
        r"not in the model \['x'\]",
    ),
    "shape that would broadcast": (
        {"weight": np.zeros((1, 1), np.float32), "bias": np.zeros(1, np.float32)},
        r"weight is float32\[1, 1\], the model has float32\[1, 2\]",
    ),
    "dtype that would be cast": (
        {"weight": np.zeros((1, 2), np.float32), "bias": np.zeros(1, np.float64)},
        r"bias is float64\[1\], the model has float32\[1\]",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_weights_of_another_model_are_refused_and_change_nothing(case: str) -> None:
    weights, message = WRONG[case]
    module = nn.Linear(2, 1)
    before = get_weights(module)
    with pytest.raises(DataError, match=message):
        set_weights(module, weights)
    assert all(np.array_equal(before[key], array) for key, array in get_weights(module).items())
