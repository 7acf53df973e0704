"""Own models: loaded from the allowed folder, and from nowhere else whatever the name says."""

import sys
from pathlib import Path

import numpy as np
import pytest

from learning.models import build_model, num_parameters
from learning.parameters import get_weights
from schemas.errors import ConfigError

TINY = """
from os import getcwd
from torch import nn

def tiny():
    return nn.Linear(3, 2)

class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

def number():
    return 7

def broken():
    raise OSError("no such layer")

def wants_width(width):
    return nn.Linear(width, 2)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "models"
    path.mkdir()
    (path / "own.py").write_text(TINY)
    return path


def test_own_model_is_built_when_its_folder_is_allowed(folder: Path) -> None:
    assert num_parameters(build_model("own:tiny", 1, folder)) == 8
    assert num_parameters(build_model("own:Deep", 1, folder)) == 20


def test_own_model_is_the_same_for_the_same_seed(folder: Path) -> None:
    first, again, other = (get_weights(build_model("own:tiny", seed, folder))["weight"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_own_model_in_a_subfolder_may_import_its_neighbours(folder: Path) -> None:
    (folder / "speech").mkdir()
    (folder / "speech" / "net.py").write_text("from own import tiny as base\ndef net():\n    return base()\n")
    path_before = list(sys.path)
    assert num_parameters(build_model("speech.net:net", 1, folder)) == 8
    assert sys.path == path_before


def test_file_named_like_a_library_module_does_not_stand_in_for_it(folder: Path) -> None:
    (folder / "json.py").write_text("from torch import nn\ndef net():\n    return nn.Linear(1, 1)\n")
    import json  # noqa: PLC0415 - the one before anything is loaded

    build_model("json:net", 1, folder)
    assert sys.modules["json"] is json


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("other:tiny", "not found: expected the file"),
        ("os:getcwd", "not found: expected the file"),  # a library's module, not the folder's
        ("own:getcwd", "defines no callable 'getcwd'"),  # merely imported by the file
        ("own:missing", "defines no callable 'missing'"),
        ("own:TINY", "defines no callable 'TINY'"),
        ("own:number", "gave int, expected a torch.nn.Module"),
        ("own:broken", "could not be built: OSError: no such layer"),
        ("own:wants_width", "could not be built: TypeError"),
        ("own:__class__", "not of the form module:callable"),
        ("../own:tiny", "not of the form module:callable"),
        ("/own:tiny", "not of the form module:callable"),
        ("own:tiny\n", "not of the form module:callable"),
        ("own::tiny", "not of the form module:callable"),
    ],
)
def test_name_that_leads_to_no_model_is_refused(folder: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model(name, 1, folder)


def test_nothing_is_imported_when_no_folder_is_allowed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "loud.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError, match="not allowed here: set model_path"):
        build_model("loud:net", 1)


def test_symbolic_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.py").write_text("raise SystemExit('imported')\n")
    (folder / "link.py").symlink_to(tmp_path / "outside.py")
    with pytest.raises(ConfigError, match=r"not allowed: .*outside\.py is outside"):
        build_model("link:net", 1, folder)


def test_file_that_does_not_import_is_one_error_naming_it(folder: Path) -> None:
    (folder / "bad.py").write_text("def net(:\n")
    with pytest.raises(ConfigError, match=r"bad\.py cannot be imported: SyntaxError"):
        build_model("bad:net", 1, folder)
