"""Prints the broker's limits for a model, a number of devices and a chunk size as one JSON object.

The playbook asks this, so that broker, demo and tests are sized by the same formulas.
It needs nothing installed, only the checkout on PYTHONPATH.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from mosquitto.sizing import limits_for
from schemas.errors import ConfigError


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute and print."""
    parser = argparse.ArgumentParser(prog="broker_limits", description=__doc__.partition("\n")[0])
    for name in ("model_bytes", "num_agents", "chunk_bytes"):
        parser.add_argument(name, type=int)
    options = parser.parse_args(arguments)
    try:
        limits = limits_for(options.model_bytes, options.num_agents, options.chunk_bytes)
    except ConfigError as error:
        sys.exit(f"broker_limits: {error}")
    print(json.dumps(dataclasses.asdict(limits)))


if __name__ == "__main__":
    main()
