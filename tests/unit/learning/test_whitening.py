"""The damping against its definition, for models of several shapes, and where there is none."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from learning.models import ModelSpec, build_model
from learning.strategies.fedavg import FedAvg
from learning.strategies.strategy import RoundStart
from learning.whitening import Damping, draw_strokes, last_layer, measure_damping
from tests.unit.learning.strategies.three_numbers import weights_of


class Direct(nn.Module):
    """Its features are the picture itself."""

    spec = ModelSpec((1, 3, 3), 2)

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(9, 2)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.fc(images.flatten(1))
        return scores


def test_gradient_is_scaled_along_each_direction_as_defined() -> None:
    damping = measure_damping(Direct(), count=6, seed=1)
    pictures = draw_strokes((1, 3, 3), seed=1).reshape(-1, 9).astype(np.float64)
    features = (pictures - 0.1307 * 255) / (0.3081 * 255)
    values, vectors = np.linalg.eigh(features.T @ features / len(features))
    values, vectors = values[::-1], vectors[:, ::-1]
    gradient = np.random.default_rng(1).normal(size=(2, 9)).astype(np.float32)

    assert damping is not None
    damped = torch.from_numpy(gradient.copy())
    damping.damp({"fc.weight": damped})

    # Along the first six eigenvectors by lambda / (lambda + e), lambda the fourth; the other three as they were.
    scale = np.ones(9)
    scale[:6] = values[3] / (values[3] + values[:6])
    expected = gradient @ vectors @ np.diag(scale) @ vectors.T
    np.testing.assert_allclose(damped.numpy(), expected, rtol=1e-3, atol=1e-5)


def test_direction_of_the_bend_is_halved() -> None:
    damping = measure_damping(Direct(), count=6, seed=1)

    assert damping is not None
    assert damping.losses[3].item() == pytest.approx(0.5)
    assert damping.losses.tolist() == sorted(damping.losses.tolist(), reverse=True)


@pytest.mark.parametrize(("model", "features"), [("cnn", 3872), ("mlp", 256), ("lstm", 64)])
def test_built_in_model_has_orthonormal_directions(model: str, features: int) -> None:
    damping = measure_damping(build_model(model, 1), count=32, seed=1)

    assert damping is not None
    assert damping.directions.shape == (features, 32)
    np.testing.assert_allclose(damping.directions.T @ damping.directions, np.eye(32), atol=1e-4)


def test_same_seed_gives_the_same_bytes() -> None:
    one, other = (measure_damping(build_model("cnn", 1), 32, 5) for _ in range(2))

    assert one is not None
    assert other is not None
    assert one.directions.numpy().tobytes() == other.directions.numpy().tobytes()


@pytest.mark.parametrize("model", [nn.Linear(4, 2), nn.Sequential(nn.Linear(4, 2), nn.Softmax(dim=1))])
def test_model_that_does_not_fit_has_no_damping_and_says_so(model: nn.Module, caplog: pytest.LogCaptureFixture) -> None:
    assert measure_damping(model, 32, 1) is None
    assert "no last-layer whitening" in caplog.text


@pytest.mark.parametrize("shape", [(1, 28, 28), (3072,), (784,), (8, 1024), (5,)])
def test_strokes_fill_inputs_of_any_shape(shape: tuple[int, ...]) -> None:
    pictures = draw_strokes(shape, seed=1)

    assert pictures.shape == (256, *shape)
    assert pictures.max() == 255
    assert 0.02 < (pictures > 127).mean() < 0.6


def test_last_layer_is_found_inside_a_model() -> None:
    found = last_layer(nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU(), nn.Linear(3, 4))))

    assert found is not None
    assert (found[0], found[1].out_features) == ("1.1", 4)


def test_round_with_damping_applies_it_before_the_limit_on_the_norm() -> None:
    damping = Damping("w", torch.tensor([[1.0], [0.0]]), torch.tensor([0.75]))
    start = RoundStart(1, weights_of(0, 0, 0), {}, 0, 1, 0.1, damping)
    gradients = {"w": torch.tensor([[4.0, 0.0]])}

    FedAvg(clip=2.0).local_round(start).correct(gradients, {}, 0)

    assert gradients["w"].tolist() == [[1.0, 0.0]]
