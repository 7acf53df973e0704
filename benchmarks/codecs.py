"""CPU time of every codec on an update that was really trained, and what it makes of the bytes.

Encoding is all that an agent does between its trained weights and the blob: the difference, error feedback, codes,
DEFLATE and safetensors. Decoding is all between the blob and the model moved by it. One thread, one process.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from matplotlib.figure import Figure

from benchmarks.result import Column, Result, Row, Say
from coordinator.report.plots import Theme
from learning.datasets import Examples, load_dataset
from learning.initialisation import initial_model
from learning.learner import Learner
from learning.models import build_model, model_spec
from learning.parameters import get_weights
from learning.partition import partition
from learning.strategies.presets import expand
from learning.threads import use_threads
from schemas.codecs import apply, compress, decode, difference, parse_codec, rounding_generator
from schemas.errors import ConfigError
from schemas.messages import TrainingPlan
from schemas.weights import Array, Weights
from schemas.weights import decode as read_blob
from schemas.weights import encode as write_blob

HEIGHT_IN = 5.0
LIMIT_MS = 5.0
"""What encoding and decoding may each cost for the CNN."""

CODECS = (
    "fp32",
    "fp16",
    "fp16,stochastic",
    "int8",
    "int8,channel",
    "int8,channel,stochastic",
    "int4",
    "int4,channel",
    "int4,channel,stochastic",
    "ternary:1",
    "ternary:1.5",
    "ternary:2",
    "ternary:1.5,channel",
    "ternary:1.5,stochastic",
    "topk:0.01",
    "topk:0.1,fp16",
    "topk:0.1,int8",
    "topk:0.1,ternary",
)
COLUMNS = (
    Column("model", "model"),
    Column("codec", "codec"),
    Column("encode_ms", "encode, CPU ms", 2),
    Column("encode_ms_max", "most", 2),
    Column("decode_ms", "decode, CPU ms", 2),
    Column("decode_ms_max", "most", 2),
    Column("blob_bytes", "bytes"),
    Column("share", "% of fp32", 1, 100),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Which codecs, on which model's update, and how often each."""

    codecs: tuple[str, ...] = CODECS
    model: str = "cnn"
    repeats: int = 100
    quick: bool = False


@dataclass(frozen=True, slots=True)
class Material:
    """A round's model, and what an agent made of it."""

    model: Weights
    trained: Weights


def run(settings: Settings, folder: Path, say: Say) -> Result:
    """One row per codec.

    Raises:
        ConfigError: no data set here fits the model.
        PayloadError: there is no such codec.
    """
    del folder
    use_threads(1)
    specs = {text: parse_codec(text) for text in settings.codecs}
    say(f"training one round of {settings.model}, then {len(specs)} codecs")
    material = trained_update(settings.model)
    rows = [measure(settings.model, text, material, 5 if settings.quick else settings.repeats) for text in specs]
    whole = len(write_blob(material.trained))
    for row in rows:
        row["share"] = row["blob_bytes"] / whole
    dearest = max(max(row["encode_ms"], row["decode_ms"]) for row in rows)
    return Result(
        settings={"model": settings.model, "repeats": settings.repeats},
        rows=rows,
        columns=COLUMNS,
        summary={"most_ms": round(dearest, 3), "limit_ms_for_the_cnn": LIMIT_MS},
        notes=(
            "CPU time of one thread, median and most: from trained weights to the blob with error feedback, and from",
            "the blob to the moved model; the codec's work alone, without messages, digests and disks",
        ),
    )


def trained_update(model: str) -> Material:
    """One agent's first round: ten batches of FedAvg."""
    examples = _examples_for(model)
    room = examples.take(partition(examples.labels, 5, "iid", 1)[1])
    recipe = expand("fedavg", 10)
    start = get_weights(initial_model(model, 1, recipe.make()))
    plan = TrainingPlan(
        model=model, local_batches=10, batch_size=16, learning_rate=recipe.learning_rate, seed=1, strategy="fedavg"
    )
    return Material(start, Learner("room-2", room).train(plan, 1, start, {}, 0).result.weights)


def _examples_for(model: str) -> Examples:
    """Bundled data of the model's input shape."""
    spec = model_spec(build_model(model, 0))
    for name in ("digits", "digits-rgb32", "sequences"):
        examples = load_dataset(name).train
        if spec is None or spec.input_shape == examples.features.shape[1:]:
            return examples
    raise ConfigError(f"no data set here has the input shape of {model}: {spec.input_shape if spec else None}")


def measure(model: str, text: str, material: Material, repeats: int) -> Row:
    """Both ways; the residual is that of the message before, as in every round but the first."""
    spec = parse_codec(text)
    residual: dict[str, Array] = {}

    def encode() -> bytes:
        change = difference(material.trained, material.model)
        sent = compress(change, residual, spec, rounding_generator(1, 2, "room-2"))
        residual.update(sent.residual)
        return write_blob(sent.packed)

    def decode_blob(blob: bytes) -> dict[str, Array]:
        return apply(material.model, decode(read_blob(blob)[1], spec, material.model))

    encode()
    blob = encode()
    encoding, decoding = cpu_ms(encode, repeats), cpu_ms(lambda: decode_blob(blob), repeats)
    return {
        "model": model,
        "codec": text,
        "encode_ms": median(encoding),
        "encode_ms_max": max(encoding),
        "decode_ms": median(decoding),
        "decode_ms_max": max(decoding),
        "blob_bytes": len(blob),
    }


def cpu_ms(work: Callable[[], object], repeats: int) -> list[float]:
    """CPU milliseconds of each repetition."""
    found = []
    for _ in range(repeats):
        begin_s = time.process_time()
        work()
        found.append(1000 * (time.process_time() - begin_s))
    return found


def draw(figure: Figure, theme: Theme, result: Result) -> None:
    """CPU time beside size, one pair of bars per codec."""
    left, right = figure.subplots(1, 2, sharey=True)
    labels = [row["codec"] for row in result.rows]
    places = range(len(labels))
    for shift, key, colour in ((-0.2, "encode", theme.compute), (0.2, "decode", theme.communication)):
        times = [row[f"{key}_ms"] for row in result.rows]
        left.barh([place + shift for place in places], times, 0.4, color=colour, label=key)
    left.axvline(LIMIT_MS, color=theme.highlight, linewidth=1)
    left.set_yticks(list(places), labels, fontsize=7)
    left.invert_yaxis()
    left.set(title="CPU ms", xlabel="ms")
    left.legend(loc="lower right", fontsize=7)
    right.barh(list(places), [100 * row["share"] for row in result.rows], 0.6, color=theme.muted)
    right.set(title="bytes, % of fp32", xlabel="%")
