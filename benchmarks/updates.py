"""Updates as agents would send them, made without training: for measuring what becomes of them."""

import numpy as np

from learning.models import build_model
from learning.parameters import get_weights
from schemas import wire
from schemas.messages import BlobHeader
from schemas.weights import Weights, digest, encode

RUN_ID = "bench"
NUM_EXAMPLES = 100


def initial_weights(model: str) -> dict[str, "np.typing.NDArray[np.generic]"]:
    """A model's weights before any round."""
    return get_weights(build_model(model, seed=0))


def make_updates(weights: Weights, count: int) -> dict[str, bytes]:
    """Agent id -> the blob of its update: the model with a little noise added."""
    rng = np.random.default_rng(1)
    base = digest(weights)
    blobs = {}
    for number in range(count):
        agent_id = f"echo-{number:04d}"
        header = BlobHeader(
            kind="update",
            run_id=RUN_ID,
            round_number=1,
            sender=agent_id,
            base_sha256=base,
            num_examples=NUM_EXAMPLES + number,
            num_batches=10,
            loss=0.5,
        )
        moved = {
            name: array + rng.normal(0.0, 0.01, array.shape).astype(array.dtype) for name, array in weights.items()
        }
        blobs[agent_id] = encode(moved, wire.encode(header))
    return blobs
