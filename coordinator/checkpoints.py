"""One safetensors file per closed round: the model, the strategy's state and the round engine's snapshot.

Files are written atomically and verified when read. Any safetensors tool opens them; the tensors are called
`weights.<name>` and `state.<name>`. `export` writes a round's model under its plain names. What is in a snapshot,
and what is done after a resume, is the engine's decision.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydantic_core
from safetensors import SafetensorError, safe_open

from coordinator.durable import make_folder, replace_file
from schemas.errors import StorageError
from schemas.weights import DTYPES, Array, Weights, digest

_FILE_NAME = re.compile(r"round-(\d{4,7})\.safetensors\Z")
_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_WEIGHTS = "weights."
_STATE = "state."
_SEAL = "sha256"


class DamagedCheckpointError(StorageError):
    """A checkpoint's file is there and can be read, but its content is not what was written."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a run needs to go on after a closed round.

    Attributes:
        weights, state: in the order in which they were saved.
        damaged: the files of later rounds that `load_latest` had to pass over.
    """

    round_number: int
    weights: dict[str, Array]
    state: dict[str, Array]
    snapshot: dict[str, Any]
    damaged: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Keep:
    """How many checkpoints stay: all while they take at most `max_bytes`, beyond that the last `last` rounds'."""

    max_bytes: int = 2 * 1024**3
    last: int = 3

    def __post_init__(self) -> None:
        """Refuse to keep nothing."""
        if self.last < 1:
            raise ValueError("the last checkpoint always stays: expected last >= 1")


KEEP_DEFAULT = Keep()


def save(  # noqa: PLR0913 - what makes up a checkpoint, and the one choice about it
    folder: Path,
    round_number: int,
    weights: Weights,
    state: Mapping[str, Array],
    snapshot: Mapping[str, Any],
    *,
    keep: Keep | None = KEEP_DEFAULT,
) -> Path:
    """Write the checkpoint of a closed round and remove those that need not stay.

    When this returns, the checkpoint survives a power cut. Saving a round again replaces it. Uses no memory
    beyond one tensor's copy, and that only for tensors that are not contiguous.

    Args:
        folder: the run's `checkpoints` folder; made when missing.
        snapshot: anything that JSON can hold.
        keep: None removes nothing, for callers that `prune` now and then.

    Raises:
        StorageError: the disk is full or not writable; earlier checkpoints are untouched.
    """
    make_folder(folder)
    tensors = {_WEIGHTS + name: array for name, array in weights.items()}
    tensors |= {_STATE + name: array for name, array in state.items()}
    metadata = {
        "round_number": str(round_number),
        # Sums over tensors round differently in another order, so the order is part of what is kept.
        "tensors": json.dumps(list(tensors)),
        "snapshot": pydantic_core.to_json(snapshot).decode(),  # a sixth of json.dumps's time, between rounds
    }
    metadata[_SEAL] = _seal(metadata, tensors)
    path = _path(folder, round_number)
    replace_file(path, _safetensors(tensors, metadata))
    if keep is not None:
        prune(folder, keep)
    return path


def load(folder: Path, round_number: int) -> Checkpoint:
    """Read and verify the checkpoint of one round.

    Raises:
        DamagedCheckpointError: it was changed, cut off or mixed up after it was written.
        StorageError: there is none, or it cannot be read.
    """
    path = _path(folder, round_number)
    metadata, tensors = _read(path)
    seal = metadata.pop(_SEAL, "")
    if metadata.get("round_number") != str(round_number) or seal != _seal(metadata, tensors):
        raise DamagedCheckpointError(f"{path} is damaged: its content is not what was written")
    order = json.loads(metadata["tensors"])
    return Checkpoint(
        round_number,
        weights={name.removeprefix(_WEIGHTS): tensors[name] for name in order if name.startswith(_WEIGHTS)},
        state={name.removeprefix(_STATE): tensors[name] for name in order if name.startswith(_STATE)},
        snapshot=json.loads(metadata["snapshot"]),
    )


def load_latest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is intact, or None when the run has none yet.

    A checkpoint is on the disk before its round is announced as closed, so a crash or power cut never makes an
    older one necessary. Only a failing disk or a stray hand does: then `damaged` names the files passed over, and
    the round after the one loaded is trained again. That gives the same bytes as before for agents that carry
    nothing from round to round (FedAvg, FedProx), which train again from the same model and the same examples.
    Agents that carry state have made that of the damaged round theirs once a later round was announced, and
    cannot go back: then the repeated round differs, and the caller has to say so.

    Raises:
        StorageError: a file cannot be read at all, or all of them are damaged. Starting anew is a person's choice.
    """
    damaged: list[Path] = []
    for round_number in reversed(saved_rounds(folder)):
        try:
            found = load(folder, round_number)
        except DamagedCheckpointError:
            damaged.append(_path(folder, round_number))
            continue
        return Checkpoint(found.round_number, found.weights, found.state, found.snapshot, tuple(damaged))
    if damaged:
        raise StorageError(f"every checkpoint in {folder} is damaged ({len(damaged)} files): the run cannot go on")
    return None


def saved_rounds(folder: Path) -> list[int]:
    """The rounds that have a checkpoint, ascending."""
    try:
        names = [entry.name for entry in folder.iterdir()] if folder.exists() else []
    except OSError as error:
        raise StorageError(f"cannot read the folder {folder}: {error.strerror or error}") from error
    return sorted(int(match[1]) for match in map(_FILE_NAME.match, names) if match)


def prune(folder: Path, keep: Keep) -> list[Path]:
    """Remove the oldest checkpoints beyond what `keep` allows, and say which."""
    paths = [_path(folder, number) for number in saved_rounds(folder)]
    removed: list[Path] = []
    try:
        sizes = [path.stat().st_size for path in paths]
        total_bytes = sum(sizes)
        for path, size_bytes in list(zip(paths, sizes, strict=True))[: -keep.last]:
            if total_bytes <= keep.max_bytes:
                break
            path.unlink()
            removed.append(path)
            total_bytes -= size_bytes
    except OSError as error:
        raise StorageError(f"cannot remove old checkpoints in {folder}: {error.strerror or error}") from error
    return removed


def total_bytes(folder: Path) -> int:
    """What all checkpoints take."""
    try:
        return sum(_path(folder, number).stat().st_size for number in saved_rounds(folder))
    except OSError as error:
        raise StorageError(f"cannot look at the checkpoints in {folder}: {error.strerror or error}") from error


def export(folder: Path, round_number: int, run_id: str, path: Path) -> Path:
    """Write the model of a saved round as float32 safetensors under the model's own tensor names.

    Floating-point tensors become float32, others (counters, say) stay as they are. The metadata holds `run_id`,
    `round_number` and `sha256`, the digest of the model as in the run's records.

    Raises:
        StorageError: there is no intact checkpoint of that round, or `path` cannot be written.
    """
    weights = load(folder, round_number).weights
    metadata = {"run_id": run_id, "round_number": str(round_number), "sha256": digest(weights)}
    plain = {
        name: array.astype(np.float32, copy=False) if np.issubdtype(array.dtype, np.floating) else array
        for name, array in weights.items()
    }
    replace_file(path, _safetensors(plain, metadata))
    return path


def _path(folder: Path, round_number: int) -> Path:
    return folder / f"round-{round_number:04d}.safetensors"


def _seal(metadata: Mapping[str, str], tensors: Weights) -> str:
    """A hash over everything else in the file."""
    text = json.dumps(metadata, sort_keys=True)
    return hashlib.sha256(f"{text}\n{digest(tensors)}".encode()).hexdigest()


def _safetensors(tensors: Weights, metadata: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    """The pieces of a safetensors file, tensor by tensor.

    The library's own `save_file` is not used: what it leaves behind when it is killed has a random name, it
    scrambles arrays that are not contiguous, and its metadata order changes from call to call.
    """
    # Large items first keeps every tensor aligned, as the library does.
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    for name in names:
        array = tensors[name]
        place = [offset, offset + array.nbytes]
        entries[name] = {"dtype": _DTYPE_NAMES[array.dtype], "shape": list(array.shape), "data_offsets": place}
        offset += array.nbytes
    head = json.dumps(entries, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    yield len(head).to_bytes(8, "little") + head
    for name in names:
        yield np.asarray(tensors[name], order="C").reshape(-1).view(np.uint8).data


def _read(path: Path) -> tuple[dict[str, str], dict[str, Array]]:
    try:
        with safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise StorageError(f"there is no checkpoint {path}") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise DamagedCheckpointError(f"{path} is damaged: {error}") from error
