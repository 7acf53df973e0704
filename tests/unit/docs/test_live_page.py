"""The page about the live page names the options, keys and variables that there are, and the code that it describes."""

import inspect
import struct

from coordinator.commands.showing import web
from coordinator.web.access import COOKIE_AGE_S
from coordinator.web.follower import LOOK_EVERY_S
from coordinator.web.settings import DEFAULT_PORT, WebSection
from tests.unit.docs.markdown import DOCS, Page

PAGE = Page(DOCS / "live-page.md")
TEXT = (DOCS / "live-page.md").read_text()
LARGEST_PICTURE_BYTES = 200_000


def test_every_setting_is_there_with_its_option_and_its_variable() -> None:
    rows = PAGE.table("Showing it to others", "option").rows
    keys = [row["`[web]` in the run's file, for `--web`"].strip("`") for row in rows]

    assert keys == list(WebSection.model_fields)
    assert [row["option"].strip("`") for row in rows] == [f"--{key.replace('_', '-')}" for key in keys]
    assert [row["in the environment"].strip("`") for row in rows] == [f"COORDINATOR_WEB__{key.upper()}" for key in keys]
    assert set(keys) <= set(inspect.signature(web).parameters)


def test_numbers_on_the_page_are_those_of_the_code() -> None:
    assert f"http://127.0.0.1:{DEFAULT_PORT}/" in TEXT
    assert f"at most every {LOOK_EVERY_S} s" in TEXT
    assert f"for {COOKIE_AGE_S // 86400} days" in TEXT


def test_pictures_are_small_enough_for_a_clone() -> None:
    for name in ("live-page-overview.png", "live-page-engineer.png"):
        data = (DOCS / name).read_bytes()
        width, height = struct.unpack(">II", data[16:24])

        assert len(data) < LARGEST_PICTURE_BYTES
        assert min(width, height) > 300
