"""Runs the named suites one after another and prints what each took beside its budget. Called by scripts/test.

A suite is a row of the table below: static checks, then pytest on some folders. A suite without a folder, or
without tests, has no row in the result. Everything runs even when something fails; the exit code tells.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
SET_UP_BUDGET_MIN = 4
_NO_TESTS_COLLECTED = 5

OWN_FOLDER = {"testbed": 12, "seeded": 5, "fuzz": 3, "pages": 4}
"""Long suites by folder under tests/, with their budgets in minutes; scripts/test leaves them out."""

FILE_BESIDE_FILE = {"seeded"}
"""Those of them whose files run beside each other."""


@dataclass(frozen=True, slots=True)
class Check:
    """A command that is silent or loud, and right or wrong by its exit code."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Suite:
    """A row of the table: checks first, then one pytest run."""

    name: str
    budget_min: int
    pytest_options: tuple[str, ...]
    checks: tuple[Check, ...] = ()


@dataclass(slots=True)
class Outcome:
    """What a suite gave; a failed check counts as one failure."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    failed_checks: list[str] = field(default_factory=list)
    duration_s: float = 0.0
    ran_tests: bool = True

    def __str__(self) -> str:
        checks = f" ({', '.join(self.failed_checks)})" if self.failed_checks else ""
        return f"{self.passed} passed, {self.failed} failed{checks}, {self.skipped} skipped"


def static_checks(root: Path) -> tuple[Check, ...]:
    """Formatting, lint and types; Ansible's own and the shell's where there is something to check with."""
    checks = [
        Check("ruff check", ("ruff", "check", ".")),
        Check("ruff format", ("ruff", "format", "--check", ".")),
        Check("mypy", ("mypy", "--strict")),
        Check("yamllint", ("yamllint", "--strict", ".")),
    ]
    if (root / "ansible").is_dir():
        lint = ("ansible-lint", "--offline", "--profile", "production", "ansible")
        checks.append(Check("ansible-lint", ("env", "ANSIBLE_CONFIG=ansible/ansible.cfg", *lint)))
    if shutil.which("shellcheck"):
        shell = sorted(str(path.relative_to(root)) for path in shell_scripts(root))
        checks.append(Check("shellcheck", ("shellcheck", *shell)))
    return tuple(checks)


def shell_scripts(root: Path) -> list[Path]:
    """The files of scripts/ and .ci/ that a shell runs."""
    candidates = [path for folder in ("scripts", ".ci") for path in (root / folder).glob("*") if path.is_file()]
    return [path for path in candidates if path.read_bytes().startswith(b"#!/usr/bin/env bash")]


def table(root: Path) -> list[Suite]:
    """Every suite that exists here, the fast one first."""
    elsewhere = tuple(f"--ignore=tests/{name}" for name in OWN_FOLDER)
    suites = [
        Suite("fast", 8, ("tests", *elsewhere, *side_by_side(), "-m", "not slow"), static_checks(root)),
        Suite("faults", 8, ("tests", *elsewhere, *side_by_side(), "-m", "slow")),
    ]
    for name, budget_min in OWN_FOLDER.items():
        if (root / "tests" / name).is_dir():
            beside = side_by_side() if name in FILE_BESIDE_FILE else ()
            suites.append(Suite(name, budget_min, (f"tests/{name}", *beside)))
    return suites


def side_by_side() -> tuple[str, ...]:
    """Tests that mostly wait for other processes, or leave cores idle, run file beside file, on at most four cores."""
    return "-n", str(min(4, os.cpu_count() or 1)), "--dist", "loadfile"


def run(suite: Suite) -> Outcome:
    """Run a suite to its end, whatever fails."""
    began_s = time.monotonic()
    failed_checks = [check.name for check in suite.checks if not passes(check)]
    outcome = run_pytest(suite.name, suite.pytest_options)
    outcome.failed += len(failed_checks)
    outcome.failed_checks += failed_checks
    outcome.duration_s = time.monotonic() - began_s
    return outcome


def passes(check: Check) -> bool:
    """Run one check with the tools of our own environment, before any that the machine has."""
    announce(check.name)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    program = shutil.which(check.command[0], path=path) or check.command[0]
    command = [program, *check.command[1:]]
    return subprocess.run(command, cwd=ROOT, env=os.environ | {"PATH": path}, check=False).returncode == 0


def run_pytest(name: str, options: Sequence[str]) -> Outcome:
    """Run pytest and count; a run that ended without a report is one failure."""
    announce(f"pytest, {name} suite")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "--quiet", f"--junit-xml={report}", *options]
        exit_code = subprocess.run(command, cwd=ROOT, check=False).returncode
        outcome = counted(report) if report.exists() else Outcome()
    outcome.ran_tests = exit_code != _NO_TESTS_COLLECTED
    if outcome.ran_tests and exit_code != 0 and outcome.failed == 0:
        outcome.failed = 1
        outcome.failed_checks.append(f"pytest ended with {exit_code}")
    return outcome


def counted(report: Path) -> Outcome:
    """The numbers in a JUnit report of ours."""
    suites = ElementTree.parse(report).getroot().iter("testsuite")  # noqa: S314 (pytest wrote it a moment ago)
    outcome = Outcome()
    for suite in suites:
        failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped = int(suite.get("skipped", 0))
        outcome.failed += failed
        outcome.skipped += skipped
        outcome.passed += int(suite.get("tests", 0)) - failed - skipped
    return outcome


def announce(what: str) -> None:
    """A heading between the outputs of the tools."""
    print(f"\n--- {what}", flush=True)


def row(name: str, duration_s: float, budget_min: int, result: str) -> str:
    """One line of the closing table."""
    late = "  OVER BUDGET" if duration_s > 60 * budget_min else ""
    minutes, seconds = divmod(round(duration_s), 60)
    return f"{name:<10}{minutes:>4}:{seconds:02}  of {budget_min:>2}:00   {result}{late}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for and print the table; 1 when anything failed."""
    suites = table(ROOT)
    parser = argparse.ArgumentParser(prog="scripts/test", description="Set up, then run the checks and tests.")
    parser.add_argument("--all", action="store_true", help="the long suites as well, as CI does")
    parser.add_argument(
        "--suite", action="append", choices=[suite.name for suite in suites], help="only this one; may be repeated"
    )
    parser.add_argument("--set-up-s", type=float, default=0.0, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    wanted = options.suite or [suite.name for suite in suites if options.all or suite.name == "fast"]

    began_s = time.monotonic()
    outcomes = [(suite, run(suite)) for suite in suites if suite.name in wanted]

    announce("time of each suite beside its budget (minutes)")
    print(row("set-up", options.set_up_s, SET_UP_BUDGET_MIN, "done"))
    total = Outcome(duration_s=time.monotonic() - began_s)
    for suite, outcome in outcomes:
        if outcome.ran_tests or outcome.failed:
            print(row(suite.name, outcome.duration_s, suite.budget_min, str(outcome)))
        total.passed += outcome.passed
        total.failed += outcome.failed
        total.skipped += outcome.skipped
        total.failed_checks += outcome.failed_checks
    print(f"{total} in {total.duration_s:.0f} s")
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
