"""The models by name: their exact size, their determinism and what they can be trained on."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from learning.datasets import Examples
from learning.models import build_model, check_fits, model_spec, num_parameters
from learning.parameters import get_weights
from schemas.errors import ConfigError, DataError


def examples_of(shape: tuple[int, ...], num_classes: int) -> Examples:
    return Examples(np.zeros((2, *shape), np.uint8), np.zeros(2, np.int64), num_classes, "blank")


@pytest.mark.parametrize(("name", "count"), [("cnn", 47_226), ("lstm", 641_032), ("mlp", 1_707_274)])
def test_model_has_exactly_the_studys_parameters(name: str, count: int) -> None:
    assert num_parameters(build_model(name, 0)) == count


@pytest.mark.parametrize("name", ["cnn", "lstm", "mlp"])
def test_model_turns_its_input_shape_into_its_number_of_scores(name: str) -> None:
    module = build_model(name, 0)
    spec = model_spec(module)
    assert spec is not None
    assert module(torch.zeros(3, *spec.input_shape)).shape == (3, spec.num_classes)


@pytest.mark.parametrize("name", ["cnn", "lstm", "mlp"])
def test_model_is_the_same_for_the_same_seed_alone(name: str) -> None:
    first, again, other = (get_weights(build_model(name, seed)) for seed in (7, 7, 8))
    assert all(np.array_equal(first[key], again[key]) for key in first)
    assert not any(np.array_equal(first[key], other[key]) for key in first)


def test_building_leaves_torchs_global_generator_alone() -> None:
    before = torch.get_rng_state()
    build_model("cnn", 5)
    assert torch.equal(torch.get_rng_state(), before)


def test_cnn_gives_the_gradients_of_the_textbook_order_of_relu_and_pooling() -> None:
    # In float64, as rounding could otherwise settle a near tie in a pool differently.
    cnn = build_model("cnn", 3).double()
    textbook = nn.Sequential(
        nn.Conv2d(1, 16, 4),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 11 * 11, 10),
    )
    textbook.double().load_state_dict(dict(zip(textbook.state_dict(), cnn.state_dict().values(), strict=True)))
    images = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for model in (cnn, textbook):
        model(images).square().sum().backward()
    torch.testing.assert_close(cnn(images), textbook(images))
    for ours, theirs in zip(cnn.parameters(), textbook.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_lstm_tells_a_sequence_from_its_reverse() -> None:
    sequence = torch.rand(1, 8, 1024, generator=torch.Generator().manual_seed(1))
    module = build_model("lstm", 0)
    assert not torch.allclose(module(sequence), module(sequence.flip(1)), atol=1e-4)


def test_unknown_model_is_refused_naming_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'resnet'.*cnn, lstm, mlp"):
        build_model("resnet", 0)


def test_model_fits_examples_of_its_shape_with_no_more_classes() -> None:
    check_fits(build_model("cnn", 0), examples_of((1, 28, 28), 10))
    check_fits(build_model("cnn", 0), examples_of((1, 28, 28), 2))


@pytest.mark.parametrize(("shape", "num_classes"), [((3072,), 10), ((28, 28), 10), ((1, 28, 28), 11)])
def test_model_that_does_not_fit_is_one_error_naming_both_shapes(shape: tuple[int, ...], num_classes: int) -> None:
    with pytest.raises(DataError) as caught:
        check_fits(build_model("cnn", 0), examples_of(shape, num_classes))
    for part in ("Cnn", "[1, 28, 28]", str(list(shape)), "10 classes", f"{num_classes} classes"):
        assert part in str(caught.value)


def test_model_without_a_spec_is_tried_on_one_example() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(6, 4))
    check_fits(module, examples_of((2, 3), 4))
    assert module.training
    with pytest.raises(DataError, match=r"blank, shape \[7\]"):
        check_fits(module, examples_of((7,), 4))
    with pytest.raises(DataError, match=r"shape \[2, 3\], with \[1, 4\]: expected scores of shape \[1, 5\]"):
        check_fits(module, examples_of((2, 3), 5))


def test_model_that_gives_no_tensor_does_not_fit() -> None:
    class Pair(nn.Module):
        def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
            return features, features

    with pytest.raises(DataError, match="with tuple: expected scores"):
        check_fits(Pair(), examples_of((3,), 2))
