"""docs/strategies.md against the code: its tables are current, and its example is a strategy that works."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

from coordinator.robust import fewest_updates
from coordinator.strategies import AGGREGATIONS
from learning.strategies.presets import PRESETS
from learning.strategies.registry import STRATEGIES, default_options
from learning.strategies.strategy import Strategy
from tests.unit.docs.markdown import DOCS, Page, code
from tests.unit.learning.strategies.three_numbers import Federation, optimum

PAGE = Page(DOCS / "strategies.md")
COMMON = {field.name: field.default for field in dataclasses.fields(Strategy)}


def options_in_words(strategy: type[Strategy]) -> str:
    """As the table has them: a strategy's own options, and common ones that it turns on."""
    shown = {n: v for n, v in default_options(strategy).items() if n not in COMMON or v != COMMON[n]}
    return ", ".join(f"{name} {value:g}" for name, value in shown.items())


def example() -> str:
    blocks = [block.text for block in PAGE.blocks if block.info == "python" and "class " in block.text]
    assert len(blocks) == 1
    return blocks[0]


@pytest.fixture
def feddyn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Strategy]:
    """The page's example, imported from a file of its own."""
    (tmp_path / "feddyn_example.py").write_text(example())
    monkeypatch.syspath_prepend(tmp_path)
    module = __import__("feddyn_example")
    monkeypatch.delitem(sys.modules, "feddyn_example")
    strategy: type[Strategy] = module.FedDyn
    return strategy


def test_table_has_every_strategy_with_its_options_and_paper() -> None:
    listed = {
        code(row["strategy"]): (row["paper"], code(row["options and defaults"]), row["learning rate"])
        for row in PAGE.table("Strategies and their options", "strategy").rows
    }

    assert listed == {
        name: (strategy.citation, options_in_words(strategy), f"{strategy.rate:g}")
        for name, strategy in STRATEGIES.items()
    }


def test_table_has_the_common_options_with_their_defaults() -> None:
    rows = PAGE.table("Strategies and their options", "option").rows

    assert {code(row["option"]): float(row["default"]) for row in rows} == COMMON


def test_presets_are_all_described() -> None:
    assert all(f"- **`{name}`**" in PAGE.text for name in PRESETS)


def test_table_has_every_aggregation_with_its_fewest_updates() -> None:
    rows = PAGE.table("Robust aggregation", "rule").rows
    listed = {code(row["rule"]): row["fewest updates"] for row in rows}

    assert tuple(listed) == AGGREGATIONS
    for rule, fewest in listed.items():
        slope, constant = (2, int(fewest.removeprefix("2f + "))) if "f" in fewest else (0, int(fewest))
        assert [fewest_updates(rule, f) for f in (1, 2)] == [slope + constant, 2 * slope + constant]


def test_example_reaches_the_optimum_of_three_numbers(feddyn: type[Strategy]) -> None:
    federation = Federation(feddyn(alpha=1.0))  # type: ignore[call-arg]  # the example's own option
    federation.play_rounds([(0, 1, 2)] * 300)

    np.testing.assert_allclose(federation.model["w"], optimum(), atol=1e-3)


def test_example_restored_from_saved_state_goes_on_with_the_same_bytes(feddyn: type[Strategy]) -> None:
    undisturbed, first = Federation(feddyn()), Federation(feddyn())
    undisturbed.play_rounds([(0, 1, 2)] * 6)
    first.play_rounds([(0, 1, 2)] * 3)
    second = Federation.restored(feddyn(), first.saved())
    second.play_rounds([(0, 1, 2)] * 3)

    assert second.model["w"].tobytes() == undisturbed.model["w"].tobytes()


def test_example_is_found_and_cited_like_any_other(feddyn: type[Strategy]) -> None:
    assert feddyn.name == "feddyn"
    assert feddyn.citation in (feddyn.__doc__ or "")
