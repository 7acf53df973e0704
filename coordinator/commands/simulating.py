"""`coordinator simulate`: whole runs in virtual time, with real training and without processes, broker or waiting."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from coordinator.commands.conversation import (
    EXIT_ABORTED,
    EXIT_ERROR,
    CodecOption,
    Json,
    RunsFolder,
    errors_in_one_line,
    open_run,
    print_document,
    runs_option,
    talk,
    working,
)
from coordinator.commands.demonstrating import warn_of_stand_in
from coordinator.commands.dividing import AlphaOption, Scheme, SchemeOption
from coordinator.commands.training_options import (
    AggregationOption,
    BatchSizeOption,
    DataOption,
    DemoModel,
    LearningRateOption,
    LocalBatchesOption,
    ModelOption,
    NumbersOption,
    RoundsOption,
    SeedOption,
    StrategyOption,
    TargetOption,
    numbers_by_name,
)
from coordinator.config import RunConfig
from coordinator.demo import DemoSettings, as_dict, demo_config, load_demo_data
from coordinator.display import RunDisplay
from coordinator.service import Observer

ReplayOption = Annotated[
    str | None,
    typer.Option(help="Repeat the closed rounds of this run with the updates that were accepted in it.", metavar="RUN"),
]


def simulate(
    rounds: RoundsOption = 25,
    target_accuracy: TargetOption = None,
    partition: SchemeOption = Scheme.DIGIT_PAIRS,
    alpha: AlphaOption = 0.5,
    local_batches: LocalBatchesOption = 10,
    batch_size: BatchSizeOption = 16,
    learning_rate: LearningRateOption = None,
    strategy: StrategyOption = "fedavg",
    option: NumbersOption = None,
    codec: CodecOption = None,
    aggregation: AggregationOption = "mean",
    model: ModelOption = DemoModel.CNN,
    devices: Annotated[int, typer.Option(min=1, max=100_000, help="Simulated agents.")] = 5,
    seed: SeedOption = 1,
    data: DataOption = None,
    replay: ReplayOption = None,
    rooms: Annotated[Path | None, typer.Option(help="With --replay: one data folder per agent id in here.")] = None,
    runs_folder: RunsFolder = Path("runs"),
    json_output: Json = False,
) -> None:
    """Run the same engines over an in-memory network in virtual time; training and evaluation are real.

    Whenever the same updates are accepted in each round, every global model has the same bytes as in a run over
    Mosquitto on the same kind of machine; --replay shows it for a run that took place.

    Example: coordinator simulate --devices 20 --partition dirichlet --alpha 0.1 --rounds 50
    """
    console = talk(json_output)

    def observe(config: RunConfig) -> Observer:
        return RunDisplay(config.rounds.count, console, config.rounds.min_agents)

    with errors_in_one_line():
        if replay is not None:
            _replay(replay, rooms, runs_folder, observe, json_output)
            return
        from simulation.study import simulate_settings

        settings = DemoSettings(
            runs_folder=runs_folder,
            devices=devices,
            rounds=rounds,
            target_accuracy=target_accuracy,
            partition=partition.value,
            alpha=alpha,
            local_batches=local_batches,
            batch_size=batch_size,
            learning_rate=learning_rate,
            model=model.value,
            strategy=strategy,
            options=numbers_by_name(option or ()),
            codec=codec,
            aggregation=aggregation,
            seed=seed,
            data=data,
        )
        demo_config(settings, "none", "check", {})  # what cannot work is said before the data is loaded
        with working(console, "loading the data"):
            dataset, name = load_demo_data(settings)
        warn_of_stand_in(console, name)
        result = simulate_settings(settings, dataset, name, observe)
    if json_output:
        print_document(as_dict(result))
    else:
        per_device = sum(result.packet_bytes_per_device.values())
        console.print(f"{per_device / 1e6:.2f} MB per device, {result.wall_s:.1f} s on this machine")
        console.print(f"look at it with  coordinator report {result.run_id}{runs_option(runs_folder)}", soft_wrap=True)
    if result.outcome != "finished":
        raise typer.Exit(EXIT_ABORTED)


def _replay(
    run_id: str, rooms: Path | None, runs: Path, observe: Callable[[RunConfig], Observer], json_output: bool
) -> None:
    from simulation.study import replay

    console = talk(json_output)
    original = open_run(runs, run_id).run_id
    result, differences = replay(runs, original, rooms, observe)
    if json_output:
        found = {"folder": str(result.folder), "replayed": original, "differences": differences}
        print_document(asdict(result) | found)
    elif differences:
        console.print("\n".join(["[red]not the same:[/]", *differences]))
    else:
        console.print(f"[green]the same bytes[/] in every round as run {original}")
    if differences:
        raise typer.Exit(EXIT_ERROR)
