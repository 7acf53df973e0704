"""`--option NAME=NUMBER`: one meaning for every command that takes it, and errors that name what is wrong."""

from pathlib import Path

import pytest

from coordinator.commands.training_options import numbers_by_name
from schemas.errors import ConfigError
from tests.unit.coordinator.test_cli import complaint, coordinator

MOMENTUM = "server_momentum=0.5"
RUN_TOML = """
[training]
strategy = "fedavgm"
options = {server_momentum = 0.5}
"""


@pytest.fixture
def run_toml(tmp_path: Path) -> Path:
    """The configuration of a run with FedAvgM."""
    path = tmp_path / "run.toml"
    path.write_text(RUN_TOML)
    return path


def test_numbers_are_found_by_their_names() -> None:
    assert numbers_by_name(["rate_decay=0.98", "clip=2"]) == {"rate_decay": 0.98, "clip": 2.0}


@pytest.mark.parametrize("text", ["rate_decay", "rate_decay=", "rate_decay=much", "rate_decay 0.98"])
def test_text_that_is_no_name_and_number_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"--option {text}: expected NAME=NUMBER, such as"):
        numbers_by_name([MOMENTUM, text])


def test_name_that_is_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="--option clip=3: clip was given before, as 2"):
        numbers_by_name(["clip=2", "clip=3"])


@pytest.mark.parametrize("command", [["demo"], ["simulate"], ["bench", "bytes"]])
def test_every_command_reads_options_alike(command: list[str]) -> None:
    assert complaint(*command, "--option", "clip") == (
        "coordinator: --option clip: expected NAME=NUMBER, such as rate_decay=0.98\n"
    )


@pytest.mark.parametrize("command", ["demo", "simulate"])
def test_option_that_a_strategy_does_not_have_is_refused_with_those_it_has(command: str) -> None:
    said = complaint(command, "--strategy", "fedavgm", "--option", "server_momentun=0.5")

    assert said.startswith("coordinator: command line: training: strategy 'fedavgm' has no option 'server_momentun'")
    assert "expected one of absent_penalty, clip, " in said
    assert "did you mean 'server_momentum'?" in said


def test_option_of_a_run_that_does_not_go_with_its_file_is_refused(run_toml: Path) -> None:
    said = complaint("run", run_toml, "--option", "tau=0.5")

    assert said.startswith(
        f"coordinator: {run_toml} and command line: training: strategy 'fedavgm' has no option 'tau': expected one of "
    )


def test_option_of_a_run_wins_over_its_file(run_toml: Path) -> None:
    said = complaint("run", run_toml, "--option", "server_momentum=2")

    assert "option 'server_momentum' of strategy 'fedavgm' must be from 0 to 0.999, not 2" in said


@pytest.mark.parametrize("command", [["demo"], ["run"], ["simulate"], ["bench", "bytes"]])
def test_help_shows_how_an_option_is_written(command: list[str]) -> None:
    assert "rate_decay=0.98" in " ".join(coordinator(*command, "--help").stdout.split())
