"""What is made once and kept."""

import os
from pathlib import Path

import pytest

from tests.testbed.cache import Cached


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path))
    return tmp_path


def thing(ingredients: object = 1, content: str = "made") -> Cached:
    return Cached("thing", ingredients, "a thing", lambda folder: _write(folder, content))


def _write(folder: Path, content: str) -> None:
    (folder / "file").write_text(content)


def test_thing_is_made_once() -> None:
    assert not thing().is_made

    thing(content="first").get()

    assert (thing(content="second").get() / "file").read_text() == "first"


def test_thing_is_made_anew_when_its_ingredients_change() -> None:
    first = thing(1).get()
    second = thing(2).get()

    assert first != second
    assert first.exists(), "a checkout of another version may use it"


def test_thing_is_not_there_when_making_it_was_interrupted(cache: Path) -> None:
    def interrupted(folder: Path) -> None:
        (folder / "half").write_text("")
        raise KeyboardInterrupt

    unfinished = Cached("thing", 1, "a thing", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unfinished.get()

    assert not unfinished.is_made
    assert [path.name for path in cache.iterdir()] == ["thing.lock"]


def test_thing_that_nobody_has_asked_for_in_a_week_goes_when_another_is_made() -> None:
    forgotten = thing(1).get()
    os.utime(forgotten, (0, 0))

    thing(2).get()

    assert not forgotten.exists()
