"""Fuzzes every target, on all cores: `python -m tests.fuzz.run_all EXECUTIONS [SEED]`; `scripts/fuzz` calls it."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TARGETS = {"packed": 0.1, "chunks": 0.1, "blobs": 0.2, "messages": 0.25, "topics": 0.35}
"""How the executions are shared out, what takes longest first; held against `targets.py` by a test."""

_TRIED = re.compile(r"stat::number_of_executed_units:\s+(\d+)")


def fuzz(executions: int, seed: int, folder: Path) -> dict[str, int | str]:
    """For each target how many inputs were tried, or what was found.

    Args:
        executions: in all; folder: where inputs that found something are written.
    """

    def one(name: str) -> int | str:
        command = [sys.executable, "-m", "tests.fuzz.run_target", name, str(int(executions * TARGETS[name])), str(seed)]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
        tried = _TRIED.search(done.stderr)
        return int(tried[1]) if done.returncode == 0 and tried else done.stderr[-3000:]

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return dict(zip(TARGETS, pool.map(one, TARGETS), strict=True))


def main() -> None:
    """Entry point: exit code 1 when anything was found."""
    executions, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    found = fuzz(executions, seed, Path.cwd())
    for name, result in found.items():
        sys.stdout.write(f"{name}: {result:,} inputs\n" if isinstance(result, int) else f"{name}: {result}\n")
    counts = [result for result in found.values() if isinstance(result, int)]
    sys.stdout.write(f"all: {sum(counts):,} inputs\n")
    sys.exit(len(counts) < len(found))


if __name__ == "__main__":
    main()
