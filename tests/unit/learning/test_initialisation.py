"""The structured start: what its numbers are, and that they are the same everywhere."""

import hashlib
import math

import numpy as np
import pytest
import torch
from torch import nn

from learning.initialisation import _cosine, initial_model, orthogonal, start_last_at_zero, start_structured
from learning.models import build_model
from learning.parameters import get_weights
from learning.strategies.fedavg import FedAvg
from schemas.weights import digest

STRUCTURED = FedAvg(structured_start=1.0, zero_last=1.0)


def test_first_model_of_a_seed_has_the_bytes_that_every_machine_derives() -> None:
    # Worked out once; x86 and ARM, old and new libraries must all agree, or first models would have to be sent.
    assert digest(get_weights(initial_model("cnn", 7, STRUCTURED))).startswith("27a3e43fa7d99918")
    assert digest(get_weights(initial_model("lstm", 7, STRUCTURED))).startswith("efdf476e69c660a8")


def test_model_without_a_structured_start_is_torchs_own() -> None:
    assert digest(get_weights(initial_model("cnn", 7, FedAvg()))) == digest(get_weights(build_model("cnn", 7)))


def test_seeds_give_different_models() -> None:
    assert digest(get_weights(initial_model("cnn", 1, STRUCTURED))) != digest(
        get_weights(initial_model("cnn", 2, STRUCTURED))
    )


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (300, 310), (1, 5), (7, 1)])
def test_orthogonal_rows_or_columns_are_orthonormal(shape: tuple[int, int]) -> None:
    matrix = orthogonal(*shape, seed=3, number=1)
    short = matrix if shape[0] <= shape[1] else matrix.T
    product = short @ short.T

    assert matrix.shape == shape
    for begin in range(0, len(short), 256):
        group = product[begin : begin + 256, begin : begin + 256]
        np.testing.assert_allclose(group, np.eye(len(group)), atol=1e-12)


def test_cosine_by_its_series_is_the_cosine() -> None:
    for denominator in (1, 8, 14):
        for numerator in range(5 * denominator):
            assert _cosine(numerator, denominator) == pytest.approx(
                math.cos(math.pi * numerator / denominator), abs=1e-14
            )


def test_first_convolution_is_the_cosine_transforms_atoms() -> None:
    weights = get_weights(initial_model("cnn", 1, STRUCTURED))["conv1.weight"].reshape(16, 16)

    np.testing.assert_allclose(weights @ weights.T, 2 * np.eye(16), atol=1e-6)
    np.testing.assert_allclose(np.abs(weights[0]), math.sqrt(2) / 4, rtol=1e-6)
    # The atom with one horizontal wave: rows alike, columns as cos((2i + 1) pi / 8).
    wave = np.cos((2 * np.arange(4) + 1) * np.pi / 8) / math.sqrt(2) / 2 * math.sqrt(2)
    np.testing.assert_allclose(np.abs(weights[1].reshape(4, 4)), np.abs(np.tile(wave, (4, 1))), rtol=1e-5)


def test_more_filters_than_atoms_repeat_them_with_the_sign_turned() -> None:
    module = nn.Sequential(nn.Conv2d(3, 6, 2), nn.Flatten(), nn.Linear(6, 2))
    start_structured(module, seed=1)
    filters = get_weights(module)["0.weight"]

    np.testing.assert_array_equal(filters[4:], -filters[:2])
    np.testing.assert_allclose(np.square(filters).sum(axis=(1, 2, 3)), 2, rtol=1e-5)
    assert get_weights(module)["0.bias"].tolist() == [0] * 6


def test_last_layer_starts_at_zero_with_every_class_alike() -> None:
    module = initial_model("cnn", 1, STRUCTURED)

    assert module(torch.rand(2, 1, 28, 28)).tolist() == [[0.0] * 10] * 2


def test_layers_of_no_known_kind_keep_what_torch_gave_them() -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    start_structured(module, seed=1)

    assert get_weights(module)["1.weight"].tolist() == [1, 1, 1]
    assert get_weights(module)["1.running_var"].tolist() == [1, 1, 1]


def test_model_that_does_not_end_in_a_dense_layer_is_left_alone_by_the_zero_start() -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=1))
    before = hashlib.sha256(get_weights(module)["0.weight"].tobytes()).digest()
    start_last_at_zero(module)

    assert hashlib.sha256(get_weights(module)["0.weight"].tobytes()).digest() == before
