"""Error feedback: what a codec loses in one message is added to the next one.

Seide et al. 2014 ("1-Bit Stochastic Gradient Descent", equations 3 and 4) carry the quantisation error; Karimireddy
et al. 2019 ("Error Feedback Fixes SignSGD", Algorithm 1) show why it converges. The residual is a value that the
caller keeps: it takes effect when the caller knows that the message counted, and is dropped when it did not.
"""

from dataclasses import dataclass

import numpy as np

from schemas.codecs.blocks import Layout
from schemas.codecs.codec import encode, pack, unpacked
from schemas.codecs.quantisation import quantise, restore
from schemas.codecs.rounding import Generator
from schemas.codecs.spec import CodecSpec
from schemas.weights import Array, Weights


@dataclass(frozen=True, eq=False)
class Compressed:
    """One message and what it leaves behind.

    Attributes:
        packed: what is sent (see `encode`).
        decoded: what every receiver decodes from it, bit by bit.
        residual: float32 tensors to hand to the next `compress`, if this message counted.
    """

    packed: dict[str, Array]
    decoded: dict[str, Array]
    residual: dict[str, Array]


def compress(weights: Weights, residual: Weights, spec: CodecSpec, generator: Generator | None = None) -> Compressed:
    """Encode weights + residual: p = x + e, sent Q(p), kept e' = p - Q(p).

    Args:
        weights: a model's tensors or their differences.
        residual: what the message before left behind; empty for none. Tensors that are not float32 have none.
        spec, generator: as for `encode`.

    Raises:
        PayloadError: non-finite.
        ValueError: a stochastic codec without a generator, or a residual of another model.
    """
    layout = Layout.of(weights, spec.per_channel)
    values = layout.join(weights)
    if residual:
        if {name: residual[name].shape for name in sorted(residual)} != layout.shapes:
            raise ValueError("the residual is of another model than the weights")
        with np.errstate(over="ignore", invalid="ignore"):
            values += layout.join(residual)
    quantised = quantise(values, layout, spec, generator)
    sent = restore(quantised, layout)
    decoded = unpacked(sent, layout, weights)
    packed = encode(decoded, spec) if spec.is_identity else pack(quantised, layout, spec, weights)
    return Compressed(packed, decoded, layout.split(values - sent))
