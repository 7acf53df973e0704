"""`python -m dashboards`: writes every dashboard for both tools, and the page about them."""

import argparse
import json
from pathlib import Path
from typing import Any

from dashboards import chronograf, document, grafana
from dashboards.device import DEVICE
from dashboards.fleet import FLEET
from dashboards.panels import Dashboard
from dashboards.run import RUN_BOARD

ROOT = Path(__file__).parents[1]
BOARDS = [FLEET, RUN_BOARD, DEVICE]


def files(boards: list[Dashboard], database: str) -> dict[str, str]:
    """Every dashboard file by its path below `dashboards/`."""
    found: dict[str, str] = {}
    for board in boards:
        found[f"chronograf/{board.name}.json"] = _json(chronograf.export(board, database))
        found[f"grafana/{board.name}.json"] = _json(grafana.export(board))
    return found


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(prog="python -m dashboards", description="Write the dashboards' files.")
    parser.add_argument("--database", default=chronograf.DATABASE, help="for Chronograf (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder; without it, the repository's own files are renewed")
    options = parser.parse_args()
    for name, text in files(BOARDS, options.database).items():
        path = (options.out or ROOT / "dashboards") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if options.out is None:
        (ROOT / "docs" / "dashboards.md").write_text(document.page(BOARDS))


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main()
