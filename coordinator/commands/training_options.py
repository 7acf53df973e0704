"""What `demo` and `simulate` ask in the same words of a run that they make up themselves."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


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
AggregationOption = Annotated[
    str, typer.Option(help="mean, or a rule that a wrong or malicious device cannot ruin, such as median.")
]
ModelOption = Annotated[DemoModel, typer.Option(help="mlp: MNIST in colour, flat; lstm: synthetic sequences.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Everything random derives from it.")]
DataOption = Annotated[Path | None, typer.Option(help="Folder of MNIST; looked for when not given.")]
