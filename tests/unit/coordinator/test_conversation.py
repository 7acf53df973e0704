"""What commands say to people: how to call us again, and that the data is not what it should be."""

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from coordinator.commands.conversation import program
from coordinator.commands.demonstrating import warn_of_stand_in


def called_as(monkeypatch: pytest.MonkeyPatch, path: Path | str) -> str:
    """How we say to call us again when we were called by this path, in a shell that does not find us by name."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "argv", [str(path)])
    return program()


def test_suggested_command_is_a_path_when_the_shell_would_not_find_us_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert called_as(monkeypatch, tmp_path / ".venv/bin/coordinator") == ".venv/bin/coordinator"
    assert called_as(monkeypatch, "/opt/federation/bin/coordinator") == "/opt/federation/bin/coordinator"
    assert called_as(monkeypatch, tmp_path / "coordinator/cli.py") == "coordinator"


def test_suggested_command_is_our_name_when_the_shell_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "coordinator").touch(mode=0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "coordinator")])

    assert program() == "coordinator"


@pytest.mark.parametrize("dataset", ["digits", "digits-rgb32"])
def test_one_line_across_the_screen_says_that_the_bundled_digits_stand_in(dataset: str) -> None:
    screen = io.StringIO()

    warn_of_stand_in(Console(file=screen, width=120), dataset)

    (line,) = screen.getvalue().splitlines()
    assert len(line) == 120
    assert line.strip("\u2500 ") == "NO COPY OF MNIST AND NO NETWORK: using scikit-learn's 8x8 digits, upscaled"


@pytest.mark.parametrize("dataset", ["mnist", "mnist-rgb32", "sequences"])
def test_nothing_is_said_when_the_data_is_the_real_one(dataset: str) -> None:
    screen = io.StringIO()

    warn_of_stand_in(Console(file=screen), dataset)

    assert screen.getvalue() == ""
