"""A million random inputs, guided by coverage, to whatever the network can reach; `scripts/fuzz` tries ten million.

No input may crash, hang, or have memory allocated beyond what it is itself. What once did is in `corpus/`.
"""

import os
import tracemalloc
from pathlib import Path

import pytest

from tests.fuzz.run_all import TARGETS as SHARES
from tests.fuzz.run_all import fuzz
from tests.fuzz.targets import TARGETS

pytestmark = pytest.mark.timeout(1200)

EXECUTIONS = 1_000_000
CORPUS = Path(__file__).parent / "corpus"
KEPT = sorted(path for path in CORPUS.rglob("*") if path.is_file())

LIARS = {
    "head of 2**63 bytes": (2**63).to_bytes(8, "little") + b"{}",
    "tensor of 2**62 bytes": (
        b'{"w":{"dtype":"F32","shape":[1073741824,1073741824],"data_offsets":[0,4611686018427387904]}}'
    ),
    "empty tensor of many dimensions": b'{"w":{"dtype":"F32","shape":[0,9999999999,9999999999],"data_offsets":[0,0]}}',
    "ten thousand brackets": b"[" * 10_000,
    "digits without end": b'{"v":' + b"9" * 10_000,
}
"""Inputs that claim to be larger than they are, or to be deep."""


def test_nothing_is_found_in_a_million_inputs(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    seed = int(os.environ.get("FUZZ_SEED", "1"))

    found = fuzz(EXECUTIONS, seed, tmp_path)

    assert {name: result for name, result in found.items() if isinstance(result, str)} == {}
    assert sum(int(result) for result in found.values()) >= 0.99 * EXECUTIONS


@pytest.mark.parametrize("path", KEPT, ids=[str(path.relative_to(CORPUS)) for path in KEPT])
def test_what_was_once_found_is_refused_now(path: Path) -> None:
    TARGETS[path.parent.name].run(path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("liar", LIARS)
def test_no_memory_is_allocated_for_what_an_input_only_claims(name: str, liar: str) -> None:
    text = LIARS[liar]
    inputs = [text, len(text).to_bytes(8, "little") + text]
    inputs += [bytes([first]) + data for first in (0, 2, 3, 4, 11, 133, 137) for data in inputs]
    for seed in TARGETS[name].seeds():
        TARGETS[name].run(seed)  # whatever is made once and kept

    tracemalloc.start()
    for data in inputs:
        TARGETS[name].run(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 4 * 1024 * 1024


def test_shares_are_those_of_the_targets() -> None:
    assert {name: target.share for name, target in TARGETS.items()} == SHARES
    assert sum(SHARES.values()) == pytest.approx(1)
