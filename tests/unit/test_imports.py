"""Who may import what: reads every import of our packages and holds it against the rules written here.

The rules keep both engines pure (no clock, no disk, no network, no torch) and the two sides apart.
"""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

ALLOWED: dict[str, set[str]] = {
    "schemas": set(),
    "transport": {"schemas"},
    "learning": {"schemas"},
    "mosquitto": {"schemas"},
    "edge_agent": {"schemas", "transport", "learning"},
    "coordinator": {"schemas", "transport", "learning"},
    "simulation": {"schemas", "transport", "learning", "mosquitto", "edge_agent", "coordinator"},
    "dashboards": {"schemas"},
    "benchmarks": {"schemas", "transport", "learning", "mosquitto", "edge_agent", "coordinator", "simulation"},
}
"""Which of our packages a package may import, besides itself."""

ALLOWED_TO_FILE: dict[str, set[str]] = {
    "coordinator/demo.py": {"mosquitto"},  # starts a private broker
}

COMMAND_LINE = ("coordinator/cli.py", "coordinator/commands/")
"""These may load the simulation and a broker too, the former only inside the command that needs it."""

BENCH_COMMAND = "coordinator/commands/bench.py"
"""The only one that loads the benchmarks, inside its functions."""

FORBIDDEN_IN_PURE = {"transport", "torch", "time", "os", "random", "logging", "threading", "pathlib", "socket"}

PAGE = "coordinator/web/"
READ_BY_PAGE = {"quarantine", "run_folder", "summary", "tables", "web"}
"""What the live page may import of the coordinator: only what reads, so that it can neither slow nor change a run."""

ONE_ADAPTER = {
    "paho": "transport",
    "influxdb_client": "coordinator",
    "starlette": "coordinator",
    "uvicorn": "coordinator",
}
"""Libraries that one module alone may import, and the package that it belongs to."""


def sources() -> list[str]:
    """Every module of our packages, as a path from the root of the repository."""
    found = [path for package in ALLOWED for path in (ROOT / package).rglob("*.py")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def imported(nodes: list[ast.AST]) -> set[str]:
    """The top-level names that these nodes import."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that a module's dependencies can be read off"
            assert node.module is not None
            names.add(node.module.split(".")[0])
    return names


def imports_of(source: str) -> set[str]:
    """Everything that a module imports, wherever in the file."""
    return imported(list(ast.walk(ast.parse((ROOT / source).read_text()))))


def pure_sources() -> list[str]:
    """Both engines, and every module of their package that they rest on."""
    found: set[str] = set()
    to_read = ["coordinator/engine.py", "edge_agent/engine.py"]
    while to_read:
        source = to_read.pop()
        if source not in found:
            found.add(source)
            to_read += own_imports(source)
    return sorted(found)


def own_imports(source: str) -> list[str]:
    """The modules of its own package that a module imports."""
    package = source.split("/", maxsplit=1)[0]
    nodes = ast.walk(ast.parse((ROOT / source).read_text()))
    names = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module is not None]
    return [f"{name.replace('.', '/')}.py" for name in names if name.startswith(f"{package}.")]


def full_names(node: ast.ImportFrom) -> list[str]:
    """`package.module.name` of everything that a statement imports."""
    return [f"{node.module}.{alias.name}" for alias in node.names]


@pytest.mark.parametrize("source", sources())
def test_module_imports_only_what_its_package_may(source: str) -> None:
    package = source.split("/", maxsplit=1)[0]
    allowed = ALLOWED[package] | ALLOWED_TO_FILE.get(source, set()) | {package}
    if source.startswith(COMMAND_LINE):
        allowed |= {"simulation", "mosquitto"}
    if source == BENCH_COMMAND:
        allowed |= {"benchmarks"}

    assert imports_of(source) & ALLOWED.keys() <= allowed


@pytest.mark.parametrize("source", pure_sources())
def test_module_of_an_engine_imports_no_clock_disk_network_or_torch(source: str) -> None:
    assert imports_of(source) & FORBIDDEN_IN_PURE == set()


@pytest.mark.parametrize("source", [source for source in sources() if source.startswith("learning/strategies/")])
def test_strategy_does_not_load_torch_on_import(source: str) -> None:
    # The round engine imports these modules. An agent's half may import torch inside its functions, and names its
    # types where only the type checker looks.
    top_level = [node for node in ast.parse((ROOT / source).read_text()).body if not isinstance(node, ast.If)]

    assert "torch" not in imported(list(top_level))


@pytest.mark.parametrize("source", [source for source in sources() if source.startswith(COMMAND_LINE)])
def test_simulation_is_loaded_only_by_the_command_that_needs_it(source: str) -> None:
    top_level: list[ast.AST] = list(ast.parse((ROOT / source).read_text()).body)

    assert not {"simulation", "benchmarks"} & imported(top_level)


@pytest.mark.parametrize("source", [source for source in sources() if source.startswith(PAGE)])
def test_page_imports_only_what_reads(source: str) -> None:
    nodes = ast.walk(ast.parse((ROOT / source).read_text()))
    names = [name for node in nodes if isinstance(node, ast.ImportFrom) for name in full_names(node)]

    ours = {name.split(".")[1] for name in names if name.startswith("coordinator.")}
    assert ours <= READ_BY_PAGE
    assert {name for name in names if name.startswith("transport.")} <= {
        "transport.settings.FileSettings",
        "transport.settings.Section",
    }
    assert "learning" not in {name.split(".")[0] for name in names}


@pytest.mark.parametrize("library", ONE_ADAPTER)
def test_library_is_imported_in_one_module_only(library: str) -> None:
    # Benchmarks hold our adapters against the bare libraries.
    users = [s for s in sources() if library in imports_of(s) and not s.startswith("benchmarks/")]

    assert len(users) <= 1
    assert {user.split("/")[0] for user in users} <= {ONE_ADAPTER[library]}


def test_every_package_is_part_of_the_distribution() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {source.split("/")[0] for source in sources()}

    assert set(setuptools["packages"]["find"]["include"]) == packages | {f"{package}.*" for package in packages}


@pytest.mark.parametrize("source", sources())
def test_module_lies_in_a_package(source: str) -> None:
    # Without __init__.py an editable install works and a wheel leaves the folder out.
    assert (ROOT / source).with_name("__init__.py").exists()
