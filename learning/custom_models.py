"""Loads an operator's own model from the folder that the operator allowed.

The name `module:callable` may come from the network. It is resolved to a file before anything runs, and that file
must lie in the allowed folder; a callable that the file merely imported from elsewhere is refused as well.
"""

import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from torch import nn

from schemas.errors import ConfigError

_NAME = re.compile(r"(?P<module>[A-Za-z]\w*(\.[A-Za-z]\w*)*):(?P<callable>[A-Za-z]\w*)", re.ASCII)


def build_custom(name: str, model_path: Path | None) -> nn.Module:
    """Call the callable that `name` points to; `package.module:callable` is looked up in subfolders.

    Raises:
        ConfigError: nothing is allowed, the name is malformed, or what it names cannot be loaded or gives no model.
    """
    if model_path is None:
        raise ConfigError(
            f"model {name!r} is not allowed here: set model_path to the folder that own models may come from"
        )
    match = _NAME.fullmatch(name)
    if match is None:
        raise ConfigError(f"model {name!r} is not of the form module:callable")
    module_name, callable_name = match["module"], match["callable"]
    module = _load(module_name, _allowed_file(module_name, model_path), model_path)
    factory = getattr(module, callable_name, None)
    if not callable(factory) or getattr(factory, "__module__", None) != module.__name__:
        raise ConfigError(f"model {name!r}: {module.__file__} defines no callable {callable_name!r}")
    try:
        model = factory()
    except Exception as error:  # an operator's own code may raise anything
        raise ConfigError(f"model {name!r} could not be built: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model {name!r} gave {type(model).__name__}, expected a torch.nn.Module")
    return model


def _allowed_file(module_name: str, model_path: Path) -> Path:
    folder = model_path.resolve()
    # Resolved, so that a symbolic link cannot lead out of the folder.
    file = folder.joinpath(*module_name.split(".")).with_suffix(".py").resolve()
    if not file.is_file():
        raise ConfigError(f"model module {module_name!r} not found: expected the file {file}")
    if not file.is_relative_to(folder):
        raise ConfigError(f"model module {module_name!r} is not allowed: {file} is outside {folder}")
    return file


def _load(module_name: str, file: Path, model_path: Path) -> ModuleType:
    # A prefix of its own, so that an operator's `json.py` never stands in for the library.
    qualified = f"federation_models.{module_name}"
    spec = importlib.util.spec_from_file_location(qualified, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"model module {module_name!r} cannot be imported from {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[qualified] = module  # dataclasses and pickle look their module up by name
    try:
        with _importable(model_path):
            spec.loader.exec_module(module)
    except Exception as error:  # an operator's own code may raise anything
        del sys.modules[qualified]
        raise ConfigError(f"model module {file} cannot be imported: {type(error).__name__}: {error}") from error
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let the file import its neighbours; at the end of the path, so that they never shadow a library."""
    entry = str(folder.resolve())
    sys.path.append(entry)
    try:
        yield
    finally:
        sys.path.remove(entry)
