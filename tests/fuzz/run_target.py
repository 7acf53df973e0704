"""Throws random bytes at one target, guided by coverage: `python -m tests.fuzz.run_target NAME EXECUTIONS [SEED]`.

libFuzzer, through atheris, ends the process at the first defect, hang (10 s) or allocation above `HEADROOM_BYTES`, and
writes the input to `crash-...` in the current folder. Prints how many inputs were tried.
"""

import resource
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["schemas", "coordinator.inbox", "coordinator.screening", "edge_agent.inbox"]):
    from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
HEADROOM_BYTES = 512 * 1024 * 1024
"""Of address space above what the process has when it begins: libFuzzer's own corpus, and nothing that grows."""

LONGEST_INPUT = 4096
SLOWEST_S = 10


def main() -> None:
    """Entry point of the process."""
    name, executions, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1
    target = TARGETS[name]
    _limit_memory()
    with tempfile.TemporaryDirectory() as scratch:
        for number, start in enumerate(target.seeds()):
            (Path(scratch) / f"seed-{number}").write_bytes(start)
        options = [
            f"-runs={executions}",
            f"-seed={seed}",
            f"-max_len={LONGEST_INPUT}",
            f"-timeout={SLOWEST_S}",
            "-print_final_stats=1",
            "-verbosity=0",
        ]
        folders = [scratch, *([str(CORPUS / name)] if (CORPUS / name).is_dir() else [])]
        atheris.Setup([sys.argv[0], *options, *folders], target.run)
        atheris.Fuzz()


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + HEADROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    main()
