"""What several commands ask in the same words of a run: `demo` and `simulate`, which make one up, `run` and `bench`."""

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from schemas.errors import ConfigError


class DemoModel(StrEnum):
    """The models that come with this project."""

    CNN = "cnn"
    MLP = "mlp"
    LSTM = "lstm"


RoundsOption = Annotated[int, typer.Option(min=1, help="At most so many rounds.")]
TargetOption = Annotated[
    float | None, typer.Option(min=0, max=1, help="End at the round that reaches this test accuracy.")
]
LocalBatchesOption = Annotated[int, typer.Option(min=1, help="E: batches that each device trains per round.")]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="B: examples of a batch.")]
LearningRateOption = Annotated[
    float | None, typer.Option(help="Step size of local training; the strategy's own when not given.")
]
StrategyOption = Annotated[str, typer.Option(help="How updates become the next model.")]
NumbersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        help="One of the strategy's own numbers, such as rate_decay=0.98; may be given more than once.",
        metavar="NAME=NUMBER",
    ),
]
AggregationOption = Annotated[
    str, typer.Option(help="mean, or a rule that a wrong or malicious device cannot ruin, such as median.")
]
ModelOption = Annotated[DemoModel, typer.Option(help="mlp: MNIST in colour, flat; lstm: synthetic sequences.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Everything random derives from it.")]
DataOption = Annotated[Path | None, typer.Option(help="Folder of MNIST; looked for when not given.")]


def numbers_by_name(texts: Iterable[str]) -> dict[str, float]:
    """What `--option` was given; whether the strategy has such numbers is checked with the rest of its settings.

    Raises:
        ConfigError: a text is not NAME=NUMBER, or a name was given twice.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, _, number = text.partition("=")
        if name in found:
            raise ConfigError(f"--option {text}: {name} was given before, as {found[name]:g}; give it once")
        try:
            found[name] = float(number)
        except ValueError as error:
            raise ConfigError(f"--option {text}: expected NAME=NUMBER, such as rate_decay=0.98") from error
    return found
