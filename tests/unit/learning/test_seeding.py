"""Random streams must be the same tomorrow, on another machine and after an upgrade."""

import random

import numpy as np

from learning.seeding import generator, permutation, stable_seed


def test_permutation_of_known_parts_is_the_one_drawn_when_this_was_written() -> None:
    assert permutation(8, "epoch", 1, "pi-1", 0).tolist() == [7, 1, 0, 2, 3, 5, 4, 6]


def test_permutation_holds_every_index_once() -> None:
    assert sorted(permutation(1000, "any", 3)) == list(range(1000))


def test_stable_seed_tells_parts_apart_that_would_join_to_the_same_text() -> None:
    seeds = {stable_seed("a", 12), stable_seed("a1", 2), stable_seed("a", "12"), stable_seed("a", 1, 2), stable_seed()}
    assert len(seeds) == 5


def test_streams_for_the_same_parts_are_equal_and_for_others_differ() -> None:
    first, again, other = (generator("x", n).random(4).tolist() for n in (1, 1, 2))
    assert first == again
    assert first != other


def test_drawing_leaves_the_global_generators_alone() -> None:
    numpy_before, python_before = repr(np.random.get_state()), random.getstate()
    permutation(10, "x")
    generator("x").random()
    assert repr(np.random.get_state()) == numpy_before
    assert random.getstate() == python_before
