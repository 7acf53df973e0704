"""docs/metrics.md shows each saved query as it is, beside the command that answers the same."""

from pathlib import Path

import pytest

from coordinator.commands.answering import answers_app
from schemas.errors import Reason

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "metrics.md").read_text()
FOLDER = ROOT / "dashboards" / "answers"
NAMES = sorted(path.stem for path in FOLDER.glob("*.influxql"))


@pytest.mark.parametrize("name", NAMES)
def test_page_shows_command_and_both_queries_when_one_changes(name: str) -> None:
    query, flux = ((FOLDER / f"{name}.{kind}").read_text() for kind in ("influxql", "flux"))

    assert f"`coordinator answers {name}`\n\n```sql\n{query}```\n\n```flux\n{flux}```\n" in PAGE


def test_every_command_has_a_saved_query() -> None:
    assert sorted(command.name or "" for command in answers_app.registered_commands) == NAMES


def test_page_counts_the_reasons_when_one_is_added() -> None:
    assert f"there are {len(Reason)} reasons" in PAGE
