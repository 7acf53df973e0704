"""`coordinator demo`: the main job on this machine, with its result beside the reference study's."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from coordinator.commands.conversation import (
    EXIT_ABORTED,
    EXIT_STOPPED,
    CodecOption,
    Json,
    RunsFolder,
    errors_in_one_line,
    print_document,
    program,
    runs_option,
    stoppable,
    talk,
    working,
)
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
from coordinator.demo import (
    DemoResult,
    DemoSettings,
    as_dict,
    check_settings,
    demo_config,
    load_demo_data,
    run_demo,
)
from coordinator.display import RunDisplay
from coordinator.run_folder import RunFolder
from coordinator.study import study_result
from coordinator.tables import MB, NOTHING, percent
from learning.datasets import Dataset


def demo(
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
    devices: Annotated[int, typer.Option(min=1, max=64, help="Agent processes.")] = 5,
    seed: SeedOption = 1,
    data: DataOption = None,
    runs_folder: RunsFolder = Path("runs"),
    json_output: Json = False,
) -> None:
    """Run the main job on this machine, with five agents.

    A private broker, five agent processes and a coordinator train on MNIST, by default with two digits on each
    device. Everything runs as it would in a building, with users, passwords and topic rights, only on loopback. Ends
    with the result beside that of the reference study, and a report with pictures.

    \b
    Example:
      coordinator demo --partition iid --local-batches 40 --target-accuracy 0.95
    """
    console = talk(json_output)
    with errors_in_one_line(), stoppable():  # the agents and the broker must not outlive us
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
        check_settings(settings)
        with working(console, "loading the data"):
            dataset, name = load_demo_data(settings)
        _introduce(console, settings, name)
        result = _run(console, settings, dataset, name)
        if result.rounds:
            with working(console, "drawing the report (not counted in the seconds)"):
                result = replace(result, report=_report(result))
    if json_output:
        print_document(as_dict(result))
    else:
        _present(console, result, runs_folder)
    if result.outcome == "stopped":
        console.print("[yellow]stopped[/]: the demo's broker has ended with it, so start it again instead of resuming")
        raise typer.Exit(EXIT_STOPPED)
    if result.outcome != "finished":
        raise typer.Exit(EXIT_ABORTED)


def warn_of_stand_in(console: Console, dataset: str) -> None:
    """One line across the screen when there is no MNIST: numbers that follow are not to be compared with any other."""
    if dataset.startswith("digits"):
        console.rule("[bold red]NO COPY OF MNIST AND NO NETWORK: using scikit-learn's 8x8 digits, upscaled[/]")


def _introduce(console: Console, settings: DemoSettings, dataset: str) -> None:
    warn_of_stand_in(console, dataset)
    alpha = f" (alpha {settings.alpha:g})" if settings.partition == Scheme.DIRICHLET else ""
    codecs = demo_config(settings, "none", "check", {}).training.codecs
    synthetic = " (synthetic)" if dataset == "sequences" else ""
    console.print(
        f"{settings.devices} agent processes, {settings.model} on {dataset}{synthetic} by {settings.partition}{alpha}, "
        f"E={settings.local_batches} batches of {settings.batch_size}, {settings.strategy}, {codecs}",
        soft_wrap=True,
    )


def _run(console: Console, settings: DemoSettings, dataset: Dataset, name: str) -> DemoResult:
    console.print("starting a broker and the agents; the first round waits until each has loaded PyTorch")
    return run_demo(
        settings, dataset, name, lambda config: RunDisplay(config.rounds.count, console, config.rounds.min_agents)
    )


def _report(result: DemoResult) -> str:
    from coordinator.report.page import write_report

    folder = Path(result.run_dir)
    return str(write_report(RunFolder.open(folder.parent, folder.name)).html)


def _present(console: Console, result: DemoResult, runs: Path) -> None:
    console.print()
    console.print(_table(result))
    us, where = program(), runs_option(runs)
    console.print()
    if result.report:
        console.print(f"report   {result.report}  (open it in a browser)", soft_wrap=True)
    console.print(f"details  {us} show {result.run_id}{where}", soft_wrap=True)
    console.print(f"model    {us} export {result.run_id}{where} -o model.safetensors", soft_wrap=True)


def _table(result: DemoResult) -> Table:
    study = study_result(result.partition) if (result.model, result.dataset) == ("cnn", "mnist") else None
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column("this run", justify="right")
    if study:
        table.add_column("study", justify="right")
    total_bytes = sum(result.packet_bytes_per_device.values())
    reached = f" (target {result.target_accuracy:.0%})" if result.target_accuracy is not None else ""
    rows = [
        ("rounds", f"{result.rounds}", f"{study.rounds}" if study else ""),
        (f"test accuracy{reached}", percent(result.final_accuracy), f"{study.accuracy:.0%}" if study else ""),
        ("local batches a round, E", f"{result.local_batches}", f"{study.local_batches}" if study else ""),
        (
            "MB per device, up and down",
            f"{total_bytes / MB:.2f}",
            f"{study.bytes_per_device / MB:.0f}" if study and study.bytes_per_device else NOTHING,
        ),
        ("training seconds per device", f"{result.train_s_per_device:.1f}", NOTHING),
        ("seconds, all in all", f"{result.wall_s:.1f}", NOTHING),
    ]
    for row in rows:
        table.add_row(*row[: len(table.columns)])
    if study:
        table.caption = "study: five Raspberry Pi 4s, the same model, data and batch size"
        table.caption_justify = "left"
    return table
