"""Both directions of a compressed run in plain calls: what each side keeps, and what goes between them.

The coordinator keeps the model W and what every agent holds, B. A round's broadcast brings B nearer to W; agents train
from B and send what they changed, with what earlier messages lost. See `schemas.codecs` for the codecs themselves.
"""

from dataclasses import dataclass, field

import numpy as np

from schemas.codecs import CodecSpec, compress, rounding_generator
from schemas.weights import Array, Weights


@dataclass(frozen=True, slots=True)
class Sent:
    """One message: the tensors that every receiver decodes, and what it takes to send them, headers aside."""

    decoded: Weights
    tensor_bytes: int


@dataclass(slots=True)
class Downlink:
    """The coordinator's side of the broadcast: `held` is what agents hold after it."""

    spec: CodecSpec
    seed: int
    held: Weights

    def send(self, weights: Weights, round_number: int) -> Sent:
        """Bring what agents hold nearer to `weights`; what is lost is still in the next difference."""
        if self.spec.is_identity:
            self.held = weights
            return Sent(weights, _size(weights))
        generator = rounding_generator(self.seed, round_number, "coordinator")
        message = compress(difference(weights, self.held), {}, self.spec, generator)
        self.held = total(self.held, message.decoded)
        return Sent(self.held, _size(message.packed))


@dataclass(slots=True)
class Uplink:
    """One agent's side: `residual` is what its counted messages have lost so far."""

    spec: CodecSpec
    seed: int
    agent_id: str
    residual: Weights = field(default_factory=dict)

    def send(self, weights: Weights, base: Weights, round_number: int) -> Sent:
        """What the coordinator decodes of the weights trained from `base`; the message counts.

        Raises:
            PayloadError: non-finite.
        """
        if self.spec.is_identity:
            return Sent(weights, _size(weights))
        generator = rounding_generator(self.seed, round_number, self.agent_id)
        message = compress(difference(weights, base), self.residual, self.spec, generator)
        self.residual = message.residual
        return Sent(total(base, message.decoded), _size(message.packed))


def difference(weights: Weights, base: Weights) -> dict[str, Array]:
    """The float tensors' change since `base`; other tensors as they are."""
    return {name: array - base[name] if array.dtype.kind == "f" else array for name, array in weights.items()}


def total(base: Weights, change: Weights) -> dict[str, Array]:
    """The reverse of `difference`."""
    return {
        name: np.add(base[name], array, dtype=array.dtype) if array.dtype.kind == "f" else array
        for name, array in change.items()
    }


def _size(tensors: Weights) -> int:
    return sum(array.nbytes for array in tensors.values())
