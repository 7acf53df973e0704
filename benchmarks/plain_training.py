"""Training as a textbook would write it: the yardstick for our loop, for the simulation and for the compiler."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from learning.models import build_model


class PlainCnn(nn.Module):
    """Our CNN layer by layer, without what `learning.models` does for speed; the same parameters and values."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 4)
        self.conv2 = nn.Conv2d(16, 32, 4)
        self.fc = nn.Linear(32 * 11 * 11, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores."""
        hidden = functional.relu(self.conv1(images))
        hidden = functional.max_pool2d(functional.relu(self.conv2(hidden)), 2)
        scores: Tensor = self.fc(hidden.flatten(1))
        return scores


def plain_model(name: str) -> nn.Module:
    """The model with the weights of `build_model(name, 0)`."""
    ours = build_model(name, seed=0)
    if name != "cnn":
        return ours
    plain = PlainCnn()
    plain.load_state_dict({key: tensor.contiguous() for key, tensor in ours.state_dict().items()})
    return plain


class PlainLoop:
    """DataLoader(TensorDataset(float tensors)), SGD, zero_grad, backward, step.

    Args:
        features: float32[n, *shape], already scaled.
    """

    def __init__(self, model: nn.Module, features: Tensor, labels: Tensor, batch_size: int, rate: float) -> None:
        self._model = model
        self._optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        self._loader = DataLoader(TensorDataset(features, labels), batch_size, shuffle=True)
        self._batches: Iterator[list[Tensor]] = iter(())

    def train(self, num_batches: int) -> list[float]:
        """So many batches more; their losses."""
        return [self.step(*self._next()) for _ in range(num_batches)]

    def step(self, features: Tensor, labels: Tensor) -> float:
        """One batch."""
        self._optimizer.zero_grad()
        loss = functional.cross_entropy(self._model(features), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return float(loss.item())

    def _next(self) -> list[Tensor]:
        batch = next(self._batches, None)
        if batch is None:
            self._batches = iter(self._loader)
            batch = next(self._batches)
        return batch
