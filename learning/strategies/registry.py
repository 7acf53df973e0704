"""Strategies by name, and their options checked: what a configuration or a plan says becomes an object here."""

import dataclasses
import difflib
import importlib
import pkgutil
from collections.abc import Collection, Mapping

from learning import strategies
from learning.strategies.strategy import Strategy
from schemas.errors import ConfigError

_BUILT_ON_THIS = ("registry", "presets")


def _found() -> dict[str, type[Strategy]]:
    """Every strategy in this folder: a new file is found without being listed anywhere."""
    files = sorted(file.name for file in pkgutil.iter_modules(strategies.__path__))
    modules = [importlib.import_module(f"{strategies.__name__}.{file}") for file in files if file not in _BUILT_ON_THIS]
    classes = [value for module in modules for value in vars(module).values() if isinstance(value, type)]
    return {c.name: c for c in classes if issubclass(c, Strategy) and "name" in vars(c)}


STRATEGIES: dict[str, type[Strategy]] = _found()


def make_strategy(name: str, options: Mapping[str, float]) -> Strategy:
    """The strategy of this name with these options; those that are not given have its defaults.

    Raises:
        ConfigError: there is no such strategy or option, or a value is out of its range.
    """
    if name not in STRATEGIES:
        raise ConfigError(f"there is no strategy {name!r}{_instead(name, STRATEGIES)}")
    strategy = STRATEGIES[name]
    known = default_options(strategy)
    for option in options:
        if option not in known:
            raise ConfigError(f"strategy {name!r} has no option {option!r}{_instead(option, known)}")
    return strategy(**options)


def default_options(strategy: type[Strategy]) -> dict[str, float]:
    """Its options and their defaults."""
    return {str(field.name): float(str(field.default)) for field in dataclasses.fields(strategy)}


def _instead(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f": expected one of {', '.join(sorted(known))}{hint}"
