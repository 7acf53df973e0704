"""The model that the agents hold, and how it follows the global model in few bytes.

With a codec for models there are two: W, the exact global model, which is evaluated, saved and exported, and B, which
coordinator and agents hold bit by bit. A round sends D = Q(W - B), and all move to B + D. What a codec loses stays in
W - B and is part of the next difference, which is error feedback (Seide et al. 2014; Karimireddy et al. 2019) without a
residual to keep. Without a codec, B is W.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from schemas.codecs import CodecSpec, apply, compress, difference
from schemas.codecs.rounding import Generator
from schemas.errors import PayloadError
from schemas.weights import Array, Weights, digest

_MODEL = "broadcast/model/"
_PACKED = "broadcast/packed/"


@dataclass(frozen=True, eq=False)
class Broadcast:
    """What agents start a round from.

    Attributes:
        model: B, and `sha256` its digest.
        packed: the difference from the model with the digest `base_sha256`, encoded; None when there is only the
            whole model to be sent.
    """

    model: Weights
    sha256: str
    packed: Weights | None = None
    base_sha256: str = ""

    def follow(self, weights: Weights, sha256: str, spec: CodecSpec, generator: Callable[[], Generator]) -> "Broadcast":
        """The next one, closer to the global model `weights`, whose digest is `sha256`, by one encoded difference.

        Args:
            generator: makes the random numbers, when there is something to be rounded.
        """
        if spec.is_identity:
            return Broadcast(weights, sha256)
        try:
            step = compress(difference(weights, self.model), {}, spec, generator())
        except PayloadError:
            # No codec carries infinities. As it is, the model shows everyone that training has diverged.
            return Broadcast(weights, sha256)
        model = apply(self.model, step.decoded)
        return Broadcast(model, digest(model), step.packed, self.sha256)

    def seen_from(self, weights: Weights, mean: Weights) -> Weights:
        """The mean of updates that started from B, as if they had started from the global model `weights`."""
        return mean if self.model is weights else apply(weights, difference(mean, self.model))

    # -- checkpoints

    def arrays(self) -> dict[str, Array]:
        """What a checkpoint holds of it, so that a resumed coordinator sends the same bytes."""
        if self.packed is None:
            return {}
        return {_MODEL + n: a for n, a in self.model.items()} | {_PACKED + n: a for n, a in self.packed.items()}

    @classmethod
    def restore(cls, weights: Weights, arrays: Mapping[str, Array], base_sha256: str) -> "Broadcast":
        """From a checkpoint's arrays, and its global model where they hold nothing."""
        model, packed = _under(_MODEL, arrays), _under(_PACKED, arrays)
        return cls(model, digest(model), packed, base_sha256) if packed else cls(weights, digest(weights))


def split(arrays: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """A checkpoint's arrays: the strategy's own, and the broadcast's."""
    ours = {name: array for name, array in arrays.items() if name.startswith((_MODEL, _PACKED))}
    return {name: array for name, array in arrays.items() if name not in ours}, ours


def _under(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {n.removeprefix(prefix): array for n, array in arrays.items() if n.startswith(prefix)}
