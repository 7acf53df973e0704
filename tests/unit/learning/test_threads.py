"""No more threads than cores, said once to the operator."""

import logging
import os
from collections.abc import Iterator

import pytest
import torch

from learning.threads import num_cores, usable_threads, use_threads


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {2, 5})


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize(("wanted", "in_effect"), [(1, 1), (2, 2), (3, 2), (64, 2)])
def test_torch_gets_as_many_threads_as_wanted_but_no_more_than_cores(wanted: int, in_effect: int) -> None:
    assert use_threads(wanted) == in_effect
    assert torch.get_num_threads() == in_effect == usable_threads(wanted)


@pytest.mark.usefixtures("two_cores")
def test_operator_is_told_what_to_change(caplog: pytest.LogCaptureFixture) -> None:
    use_threads(2)
    assert not caplog.records
    use_threads(3)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "threads = 3, but this process may use only 2 cores" in caplog.text


def test_cores_are_those_that_the_process_may_use() -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert num_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
