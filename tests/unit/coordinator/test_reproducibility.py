"""Digests of a run: the same for the same, others for others."""

import hashlib
from pathlib import Path

from coordinator.reproducibility import canonical, digests, same_models_until
from coordinator.run_folder import RunFolder
from tests.unit.coordinator.recorded import closed, run_of
from tests.unit.coordinator.test_report import make_run


def test_digests_are_those_of_the_files_and_of_the_models(tmp_path: Path) -> None:
    run = make_run(tmp_path, run_of(2, {"a": 1.0}))

    found = digests(run, run.records())

    assert found.models == {1: f"{1:064x}", 2: f"{2:064x}"}
    assert found.models_sha256 == hashlib.sha256(f"{1:064x}{2:064x}".encode()).hexdigest()
    assert found.record_sha256 == hashlib.sha256(run.record_path.read_bytes()).hexdigest()
    assert found.seed == 1


def test_plan_has_the_same_digest_when_its_keys_stand_in_another_order() -> None:
    assert canonical({"b": 1, "a": [1.5]}) == canonical({"a": [1.5], "b": 1})


def test_digests_are_left_out_when_run_has_neither_plan_nor_round(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "run-1", {})

    found = digests(run, run.records())

    assert (found.seed, found.plan_sha256, found.models_sha256, found.models) == (None, None, None, {})


def test_models_are_the_same_up_to_the_first_difference() -> None:
    one = [closed(number) for number in (1, 2, 3)]
    other = [*one[:2], closed(3, model_sha256="f" * 64), closed(4)]

    assert same_models_until([one, one]) == 3
    assert same_models_until([one, other]) == 2
    assert same_models_until([one, [closed(1, model_sha256="f" * 64)]]) == 0
    assert same_models_until([one, []]) == 0
