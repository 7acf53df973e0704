"""Digests by which two runs can be compared: same plan, same models, and up to which round.

Everything comes from a run's folder. The digests of models are the rounds' own (`weights.digest`).
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from coordinator import summary
from coordinator.run_folder import Record, RunFolder
from schemas.records import RoundRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Digests:
    """What a run has to show for itself.

    Attributes:
        seed: everything random derives from it.
        plan_sha256: of the training plan that all devices got, as JSON with sorted keys; None in older runs.
        models: round to the digest of the model after it, in order.
        models_sha256: of all those digests, as one number to compare; None before the first round.
        config_sha256, record_sha256: of the two files.
    """

    seed: int | None
    plan_sha256: str | None
    models: dict[int, str]
    models_sha256: str | None
    config_sha256: str
    record_sha256: str


def digests(run: RunFolder, records: Iterable[Record]) -> Digests:
    """A run's digests.

    Args:
        records: the run's.

    Raises:
        OSError: its files cannot be read.
    """
    rounds = summary.rounds_of(records)
    plan = run.config.get("plan")
    return Digests(
        seed=run.config.get("training", {}).get("seed"),
        plan_sha256=_sha256(canonical(plan)) if plan is not None else None,
        models={record.round_number: record.model_sha256 for record in rounds},
        models_sha256=_sha256("".join(record.model_sha256 for record in rounds).encode()) if rounds else None,
        config_sha256=_sha256((run.path / "config.json").read_bytes()),
        record_sha256=_sha256(run.record_path.read_bytes()),
    )


def canonical(value: Any) -> bytes:
    """JSON that is the same for the same content."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def same_models_until(runs: Sequence[Sequence[RoundRecord]]) -> int:
    """The last round up to which all runs have the same models, bit for bit; 0 when they differ at once."""
    last = 0
    for rounds in zip(*runs, strict=False):
        if len({record.model_sha256 for record in rounds}) > 1:
            break
        last = rounds[0].round_number
    return last


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
