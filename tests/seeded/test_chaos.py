"""Seeded worlds full of faults, in each of which every promise must hold; `coordinator chaos` runs more of them."""

import os

import pytest

from simulation.chaos import Finding, run_seeds

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SEEDS = 150


def test_every_promise_holds_when_everything_goes_wrong() -> None:
    findings: list[Finding] = []
    run_seeds(range(SEEDS), os.cpu_count() or 1, findings.append)
    broken = [f"seed {finding.seed}: {finding.broken}" for finding in findings if finding.broken]
    assert broken == []
    finished = [finding for finding in findings if finding.outcome == "finished"]
    assert len(finished) > 0.9 * SEEDS
    assert min(finding.faults for finding in findings) >= 5
