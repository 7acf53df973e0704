"""`coordinator chaos`: thousands of seeded runs in which everything goes wrong, each held against its promises."""

import os
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from coordinator.commands.conversation import EXIT_ERROR, Json, errors_in_one_line, print_document, talk

if TYPE_CHECKING:
    from simulation.chaos import Finding


def chaos(
    seeds: Annotated[int, typer.Option(min=1, help="How many worlds to run.")] = 1000,
    first: Annotated[int, typer.Option(min=0, help="The first seed; to run one again, give it and --seeds 1.")] = 0,
    processes: Annotated[int | None, typer.Option(min=1, help="Worker processes; all cores when not given.")] = None,
    json_output: Json = False,
) -> None:
    """Run seeded worlds: lost, doubled and delayed messages, partitions, kills, power cuts, half-written files.

    Each world has at least five agents and five rounds, the real engines and services, and a model of three numbers, so
    that every global model can be worked out again from the accepted updates. In every tenth the coordinator writes
    real files. A world that breaks a promise is printed with its seed, which repeats it exactly.

    Example: coordinator chaos --seeds 10000
    """
    from simulation.chaos import run_seeds

    console = talk(json_output)
    broken: list[Finding] = []
    outcomes: Counter[str] = Counter()
    rounds = faults = 0
    columns = (TextColumn("worlds"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with errors_in_one_line(), Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("worlds", total=seeds)

        def note(finding: "Finding") -> None:
            nonlocal rounds, faults
            progress.advance(task)
            outcomes[finding.outcome or "no end"] += 1
            rounds += finding.rounds
            faults += finding.faults
            if finding.broken:
                broken.append(finding)
                console.print(f"[red]seed {finding.seed}[/]: {finding.broken}", soft_wrap=True)

        run_seeds(range(first, first + seeds), processes or os.cpu_count() or 1, note)
    if json_output:
        found = {"seeds": seeds, "first": first, "rounds": rounds, "faults": faults, "outcomes": dict(outcomes)}
        print_document(found | {"broken": [asdict(finding) for finding in broken]})
    else:
        words = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        console.print(
            f"{seeds} worlds, {rounds} rounds, {faults} parties struck: {words}; {len(broken)} broken promises"
        )
    if broken:
        console.print(f"repeat one with  coordinator chaos --first {broken[0].seed} --seeds 1")
        raise typer.Exit(EXIT_ERROR)
