"""`coordinator partition`: divides a data set into one data folder per device."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from coordinator.commands.conversation import Json, errors_in_one_line, print_document, talk, working
from schemas.errors import ConfigError
from schemas.identifiers import checked_agent_id


class Scheme(StrEnum):
    """How examples are divided among devices."""

    IID = "iid"
    DIGIT_PAIRS = "digit-pairs"
    DIRICHLET = "dirichlet"


SchemeOption = Annotated[
    Scheme, typer.Option(help="iid; digit-pairs: each device two digits; dirichlet: uneven, see --alpha.")
]
AlphaOption = Annotated[
    float, typer.Option(help="For dirichlet: 100 is nearly iid, 0.1 gives most devices a class or two.")
]


@dataclass(frozen=True, slots=True)
class Share:
    """What one device got."""

    agent_id: str
    folder: Path
    class_counts: list[int]


def partition_command(
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the folders go, one per device, made when missing.")],
    agents: Annotated[str, typer.Option(help="How many (room-1, room-2, ...), or their ids: kitchen,bath,hall.")] = "5",
    dataset: Annotated[
        str, typer.Option(help="mnist, digits (8x8, no download), either with -rgb32 for the mlp, or sequences.")
    ] = "mnist",
    scheme: SchemeOption = Scheme.DIGIT_PAIRS,
    alpha: AlphaOption = 0.5,
    seed: Annotated[int, typer.Option(min=0, help="The same seed divides in the same way.")] = 1,
    data: Annotated[Path | None, typer.Option(help="Folder of MNIST; looked for when not given.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace examples that lie there already.")] = False,
    json_output: Json = False,
) -> None:
    """Divide a data set, one folder per device.

    The folders are to be copied to the devices: each holds examples.npz, and an agent's data_folder points to it. The
    test set goes to nobody.

    \b
    Example:
      coordinator partition --scheme iid --agents kitchen,bath,hall --out rooms
    """
    console = talk(json_output)
    with errors_in_one_line():
        names = agent_names(agents)
        folders = [out / name for name in names]
        occupied = [folder for folder in folders if (folder / "examples.npz").exists()]
        if occupied and not overwrite:
            raise ConfigError(f"{occupied[0]} holds examples already: choose another --out, or --overwrite them")
        with working(console, f"dividing {dataset}"):
            shares = _divide(dataset, data, scheme, alpha, seed, folders)
    if json_output:
        print_document(
            {"dataset": dataset, "scheme": scheme.value, "seed": seed, "agents": [_as_json(share) for share in shares]}
        )
    else:
        console.print(_counts_table(shares))
        console.print(f"written to {out}: copy each folder to its device, as the data_folder of its agent.toml")


def agent_names(text: str) -> list[str]:
    """Agent ids from a number or from a list with commas.

    Raises:
        ConfigError: not a list of different, valid ids.
    """
    if text.isdigit():
        return [f"room-{number}" for number in range(1, int(text) + 1)]
    names = [name.strip() for name in text.split(",")]
    for name in names:
        checked_agent_id(name, "--agents: agent id")
    if len(set(names)) < len(names):
        raise ConfigError(f"--agents: an id stands there twice: {text}")
    return names


def _divide(
    dataset: str, data: Path | None, scheme: Scheme, alpha: float, seed: int, folders: list[Path]
) -> list[Share]:
    from learning.datasets import load_dataset
    from learning.folders import write_folder
    from learning.partition import partition

    examples = load_dataset(dataset, data).train
    shares = []
    for folder, indices in zip(
        folders, partition(examples.labels, len(folders), scheme.value, seed, alpha), strict=True
    ):
        part = examples.take(indices)
        write_folder(folder, part)
        counts = np.bincount(part.labels, minlength=examples.num_classes)
        shares.append(Share(folder.name, folder, counts.tolist()))
    return shares


def _counts_table(shares: list[Share]) -> Table:
    num_classes = len(shares[0].class_counts)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("device")
    for label in range(num_classes):
        table.add_column(str(label), justify="right")
    table.add_column("examples", justify="right", style="bold")
    for share in shares:
        counts = [str(count) if count else "." for count in share.class_counts]
        table.add_row(share.agent_id, *counts, str(sum(share.class_counts)))
    return table


def _as_json(share: Share) -> dict[str, object]:
    return {
        "agent_id": share.agent_id,
        "folder": str(share.folder),
        "num_examples": sum(share.class_counts),
        "class_counts": share.class_counts,
    }
