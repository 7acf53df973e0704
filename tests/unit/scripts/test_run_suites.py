"""The table of suites and its arithmetic; that the suites themselves run is seen by running scripts/test."""

from pathlib import Path

import pytest

from scripts.run_suites import OWN_FOLDER, Outcome, counted, row, run_pytest, shell_scripts, table


def test_table_holds_only_suites_whose_folder_exists(tmp_path: Path) -> None:
    (tmp_path / "tests" / "fuzz").mkdir(parents=True)

    assert [suite.name for suite in table(tmp_path)] == ["fast", "faults", "fuzz"]


def test_fast_suite_leaves_out_slow_tests_and_the_long_suites_folders(tmp_path: Path) -> None:
    fast = table(tmp_path)[0]

    assert fast.pytest_options[-2:] == ("-m", "not slow")
    assert {f"--ignore=tests/{name}" for name in OWN_FOLDER} <= set(fast.pytest_options)


def test_report_is_counted_with_errors_as_failures(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text('<testsuites><testsuite tests="10" failures="2" errors="1" skipped="3"></testsuite></testsuites>')

    outcome = counted(report)

    assert (outcome.passed, outcome.failed, outcome.skipped) == (4, 3, 3)


def test_outcome_names_the_checks_that_failed() -> None:
    assert str(Outcome(passed=4, failed=1, failed_checks=["mypy"])) == "4 passed, 1 failed (mypy), 0 skipped"


@pytest.mark.parametrize(("duration_s", "late"), [(479.0, False), (481.0, True)])
def test_row_says_when_a_suite_is_over_its_budget(duration_s: float, late: bool) -> None:
    assert row("fast", duration_s, 8, "1 passed").endswith("OVER BUDGET") == late


@pytest.mark.parametrize(
    ("body", "passed", "failed", "skipped", "ran_tests"),
    [
        ("def test_a(): pass\ndef test_b(): pass", 2, 0, 0, True),
        ("def test_a(): assert False\ndef test_b(): pass", 1, 1, 0, True),
        ("import pytest\ndef test_a(): pytest.skip('x')", 0, 0, 1, True),
        ("import no_such_module", 0, 1, 0, True),
        ("", 0, 0, 0, False),
    ],
)
def test_pytest_run_is_counted_by_what_really_ran(
    tmp_path: Path, body: str, passed: int, failed: int, skipped: int, ran_tests: bool
) -> None:
    module = tmp_path / "test_sample.py"
    module.write_text(body)

    outcome = run_pytest("sample", [str(module), f"--rootdir={tmp_path}", "-p", "no:cacheprovider"])

    assert (outcome.passed, outcome.failed, outcome.skipped) == (passed, failed, skipped)
    assert outcome.ran_tests == ran_tests


def test_pytest_run_counts_as_failed_when_it_ends_without_a_report() -> None:
    outcome = run_pytest("sample", ["--no-such-option"])

    assert outcome.failed == 1
    assert outcome.failed_checks == ["pytest ended with 4"]


def test_shell_scripts_are_those_that_bash_runs(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "demo").write_text("#!/usr/bin/env bash\n")
    (tmp_path / "scripts" / "run.py").write_text('"""Not for a shell."""\n')

    assert shell_scripts(tmp_path) == [tmp_path / "scripts" / "demo"]
