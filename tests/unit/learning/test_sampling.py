"""The shuffled stream: complete epochs, independent of where one starts reading."""

import numpy as np
import pytest

from learning.sampling import batch_indices


def stream(num_examples: int, batch_size: int, batches: range, seed: int = 1, agent_id: str = "pi-1") -> list[int]:
    parts = [batch_indices(num_examples, batch_size, b, seed, agent_id) for b in batches]
    return [int(index) for part in parts for index in part]


def test_stream_visits_every_example_once_an_epoch_when_batches_span_epochs() -> None:
    drawn = stream(num_examples=10, batch_size=4, batches=range(10))
    epochs = [drawn[i : i + 10] for i in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_stream_is_the_same_whatever_the_batch_size() -> None:
    assert stream(10, 4, range(15)) == stream(10, 6, range(10)) == stream(10, 60, range(1))


def test_batch_larger_than_the_data_set_spans_several_epochs() -> None:
    drawn = batch_indices(3, 8, 1, 1, "pi-1").tolist()
    # Positions 8 to 15: the last of epoch 2, epochs 3 and 4 whole, the first of epoch 5.
    assert len(drawn) == 8
    assert sorted(drawn[1:4]) == sorted(drawn[4:7]) == [0, 1, 2]


def test_batch_far_into_the_stream_is_found_without_reading_up_to_it() -> None:
    assert sorted(batch_indices(100, 100, 10**9, 1, "pi-1").tolist()) == list(range(100))


def test_streams_of_other_agents_and_seeds_differ() -> None:
    streams = [stream(50, 50, range(1), seed, agent) for seed, agent in ((1, "pi-1"), (1, "pi-2"), (2, "pi-1"))]
    assert len({tuple(s) for s in streams}) == 3


def test_batch_is_a_copy_when_the_caller_changes_it() -> None:
    batch = batch_indices(10, 5, 0, 1, "pi-1")
    before = batch.tolist()
    batch[:] = 0
    assert batch_indices(10, 5, 0, 1, "pi-1").tolist() == before
    assert batch.dtype == np.int64


@pytest.mark.parametrize(("num_examples", "batch_size", "batch"), [(0, 1, 0), (5, 0, 0), (5, 1, -1)])
def test_impossible_batch_is_refused(num_examples: int, batch_size: int, batch: int) -> None:
    with pytest.raises(ValueError, match="no batch"):
        batch_indices(num_examples, batch_size, batch, 1, "pi-1")
