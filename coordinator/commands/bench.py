"""`coordinator bench NAME`: measures the system and its parts; `docs/benchmarks.md` shows what came out."""

import shlex
import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from coordinator.commands.conversation import Json, errors_in_one_line, print_document, talk
from coordinator.commands.dividing import Scheme, SchemeOption
from coordinator.commands.training_options import NumbersOption, numbers_by_name
from schemas.errors import ConfigError

bench_app = typer.Typer(
    help="Measure: each benchmark prints a table and writes JSON and a picture to a folder that it names.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Quick = Annotated[bool, typer.Option("--quick", help="A small version: to see that it works, not to publish.")]
Out = Annotated[Path, typer.Option("--out", help="A new folder for the result is made in here.")]
OUT = Path("runs/bench")


@bench_app.command()
def overhead(
    agents: Annotated[str, typer.Option(help="Numbers of agents, with commas.")] = "",
    rounds: Annotated[int | None, typer.Option(min=1, help="Of each row; fewer with more agents otherwise.")] = None,
    model: Annotated[str, typer.Option(help="Whose weights travel.")] = "cnn",
    quick: Quick = False,
    out: Out = OUT,
    json_output: Json = False,
) -> None:
    """Echo rounds on a real broker beside the same messages between bare clients.

    Example: coordinator bench overhead --agents 5,50 --json
    """
    counts = _numbers(agents, "--agents") or ((5, 50) if quick else (5, 50, 200, 1000))
    _measure("overhead", {"agents": counts, "rounds": rounds, "model": model, "quick": quick}, out, json_output)


@bench_app.command()
def load(
    agents: Annotated[str, typer.Option(help="Numbers of agents, with commas.")] = "",
    rounds: Annotated[int | None, typer.Option(min=1, help="Of each row; fewer with more agents otherwise.")] = None,
    model: Annotated[str, typer.Option(help="Whose weights travel.")] = "cnn",
    per_process: Annotated[int, typer.Option(min=1, max=300, help="Agents that share a process.")] = 250,
    quick: Quick = False,
    out: Out = OUT,
    json_output: Json = False,
) -> None:
    """Whole rounds of a thousand and more agents on a real broker: time, memory, refusals of every party.

    Example: coordinator bench load --agents 1000,10000
    """
    counts = _numbers(agents, "--agents") or ((10, 60) if quick else (10, 100, 1000))
    options = {"agents": counts, "rounds": rounds, "model": model, "per_process": per_process, "quick": quick}
    _measure("load", options, out, json_output)


@bench_app.command()
def soak(
    rounds: Annotated[int, typer.Option(min=20, help="Rounds.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Which faults come when follows from it.")] = 1,
    every: Annotated[int, typer.Option(min=1, help="Rounds from one fault to the next, on average.")] = 15,
    quick: Quick = False,
    out: Out = OUT,
    json_output: Json = False,
) -> None:
    """Thousands of rounds under random faults: do memory, files and threads of every party stay flat?

    Example: coordinator bench soak --rounds 2000 --seed 1
    """
    _measure("soak", {"rounds": rounds, "seed": seed, "every": every, "quick": quick}, out, json_output)


@bench_app.command()
def aggregate(quick: Quick = False, out: Out = OUT, json_output: Json = False) -> None:
    """Updates a second from bytes to the sum, beside a plain NumPy pipeline.

    Example: coordinator bench aggregate
    """
    _measure("aggregate", {"quick": quick}, out, json_output)


@bench_app.command()
def train(
    models: Annotated[str, typer.Option(help="cnn, lstm, mlp, with commas.")] = "cnn,lstm,mlp",
    threads: Annotated[str, typer.Option(help="Thread counts, with commas.")] = "1,2,3,4",
    quick: Quick = False,
    out: Out = OUT,
    json_output: Json = False,
) -> None:
    """The agent's training loop beside a plain one.

    Example: coordinator bench train --models cnn --threads 1
    """
    options = {"models": _words(models), "threads": _numbers(threads, "--threads"), "quick": quick}
    _measure("train", options, out, json_output)


@bench_app.command()
def wire(
    agents: Annotated[int, typer.Option(min=1, help="Agents.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds.")] = 20,
    quick: Quick = False,
    out: Out = OUT,
    json_output: Json = False,
) -> None:
    """Packet bytes as we account them against what the kernel counted.

    Example: coordinator bench wire
    """
    _measure("wire", {"agents": agents, "rounds": rounds, "quick": quick}, out, json_output)


@bench_app.command()
def timeline(
    rounds: Annotated[int, typer.Option(min=2, help="Rounds.")] = 100,
    devices: Annotated[int, typer.Option(min=2, help="Agent processes.")] = 5,
    local_batches: Annotated[int, typer.Option(min=1, help="E: batches that each device trains per round.")] = 10,
    quick: Quick = False,
    out: Out = OUT,
    json_output: Json = False,
) -> None:
    """Compute, communication and idle time of every device on a real broker, and who holds the others up.

    Example: coordinator bench timeline --rounds 100
    """
    options = {"rounds": rounds, "devices": devices, "local_batches": local_batches, "quick": quick}
    _measure("timeline", options, out, json_output)


@bench_app.command()
def convergence(
    local_batches: Annotated[str, typer.Option(help="E, with commas.")] = "10,20,30,40",
    seeds: Annotated[int, typer.Option(min=1, help="How many: 1, 2, ...")] = 5,
    partitions: Annotated[str, typer.Option(help="iid, digit-pairs, with a comma.")] = "iid,digit-pairs",
    strategy: Annotated[str, typer.Option(help="How updates become the next model.")] = "fedavg",
    rounds: Annotated[int, typer.Option(min=1, help="At most so many.")] = 40,
    quick: Quick = False,
    out: Out = OUT,
    json_output: Json = False,
) -> None:
    """Rounds and seconds to the study's targets, simulated, over several seeds.

    Example: coordinator bench convergence --local-batches 10,40 --seeds 2
    """
    options = {
        "local_batches": _numbers(local_batches, "--local-batches"),
        "seeds": seeds,
        "partitions": _words(partitions),
        "strategy": strategy,
        "rounds": rounds,
        "quick": quick,
    }
    _measure("convergence", options, out, json_output)


@bench_app.command()
def latency(
    models: Annotated[str, typer.Option(help="cnn, lstm, mlp, with commas.")] = "cnn,lstm,mlp",
    runs: Annotated[int, typer.Option(min=2, help="Of each batch size.")] = 50,
    quick: Quick = False,
    out: Out = OUT,
    json_output: Json = False,
) -> None:
    """Forward and backward CPU time against batch size, from torch's profiler.

    Example: coordinator bench latency --models cnn
    """
    _measure("latency", {"models": _words(models), "runs": runs, "quick": quick}, out, json_output)


@bench_app.command()
def simulate(
    agents: Annotated[str, typer.Option(help="Numbers of virtual agents, with commas.")] = "",
    updates: Annotated[int, typer.Option(min=1, help="Of each row.")] = 2000,
    quick: Quick = False,
    out: Out = OUT,
    json_output: Json = False,
) -> None:
    """Client updates a second of the simulation on all cores, beside plain loops, one per core, a textbook's and ours.

    Example: coordinator bench simulate --agents 100
    """
    counts = _numbers(agents, "--agents") or ((10,) if quick else (100, 1000))
    _measure("simulate", {"agents": counts, "updates": updates, "quick": quick}, out, json_output)


@bench_app.command()
def learning(
    tables: Annotated[str, typer.Option(help="presets, strategies, ablation, with commas.")] = "",
    splits: Annotated[str, typer.Option(help="Of the presets: pairs-10, iid-40, ..., with commas.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="How many.")] = 5,
    first_seed: Annotated[int, typer.Option(min=0, help="The first of them.")] = 11,
    codec: Annotated[str | None, typer.Option(help="Instead of the presets' own, such as fp32.")] = None,
    quick: Quick = False,
    out: Out = OUT,
    json_output: Json = False,
) -> None:
    """Rounds to an accuracy for strategies, for FedAvg and the presets on every split, for `best` without each part.

    Example: coordinator bench learning --tables presets --splits pairs-10,iid-40 --seeds 3
    """
    options: dict[str, Any] = {"seeds": seeds, "first_seed": first_seed, "codec": codec, "quick": quick}
    if tables:
        options["tables"] = _words(tables)
    if splits:
        options["splits"] = _words(splits)
    _measure("learning", options, out, json_output)


@bench_app.command("bytes")
def bytes_command(
    strategy: Annotated[list[str] | None, typer.Option(help="May be given more than once; fedavg and best.")] = None,
    codec: Annotated[
        list[str] | None, typer.Option(help="May be given more than once: int8, or UP/DOWN such as ternary:1/int4.")
    ] = None,
    local_batches: Annotated[str, typer.Option(help="E, with commas.")] = "10,40",
    targets: Annotated[str, typer.Option(help="Accuracies in percent, with commas.")] = "85,90,95",
    partition: SchemeOption = Scheme.DIGIT_PAIRS,
    seeds: Annotated[int, typer.Option(min=1, help="How many.")] = 5,
    first_seed: Annotated[int, typer.Option(min=0, help="The first of them.")] = 11,
    rounds: Annotated[int, typer.Option(min=1, help="At most so many.")] = 25,
    learning_rate: Annotated[float | None, typer.Option(help="Instead of the strategies' own.")] = None,
    option: NumbersOption = None,
    broker: Annotated[bool, typer.Option("--broker", help="The first one again, over a real broker.")] = False,
    quick: Quick = False,
    out: Out = OUT,
    json_output: Json = False,
) -> None:
    """Rounds and bytes to an accuracy for strategies times codecs, every packet counted, simulated.

    Example: coordinator bench bytes --strategy best --codec int4 --codec ternary:1/int4 --seeds 2 --broker
    """
    with errors_in_one_line():
        numbers = numbers_by_name(option or ())
    options: dict[str, Any] = {
        "local_batches": _numbers(local_batches, "--local-batches"),
        "targets": tuple(percent / 100 for percent in _percents(targets)),
        "partition": partition.value,
        "seeds": seeds,
        "first_seed": first_seed,
        "rounds": rounds,
        "learning_rate": learning_rate,
        "options": numbers,
        "broker": broker,
        "quick": quick,
    }
    if strategy:
        options["strategies"] = tuple(strategy)
    if codec:
        options["codecs"] = tuple(codec)
    _measure("bytes", options, out, json_output)


@bench_app.command()
def codecs(
    codec: Annotated[list[str] | None, typer.Option(help="May be given more than once; one of each kind.")] = None,
    model: Annotated[str, typer.Option(help="cnn, mlp, lstm or your own as module:callable.")] = "cnn",
    quick: Quick = False,
    out: Out = OUT,
    json_output: Json = False,
) -> None:
    """CPU time of encoding and decoding an update with every codec, and its size.

    Example: coordinator bench codecs --codec int4,channel --codec ternary:1.5
    """
    options: dict[str, Any] = {"model": model, "quick": quick}
    if codec:
        options["codecs"] = tuple(codec)
    _measure("codecs", options, out, json_output)


@bench_app.command()
def lossless(
    codec: Annotated[list[str] | None, typer.Option(help="May be given more than once; int8.")] = None,
    strategy: Annotated[str, typer.Option(help="Of both.")] = "fedavg",
    partition: SchemeOption = Scheme.IID,
    local_batches: Annotated[int, typer.Option(min=1, help="E.")] = 10,
    seeds: Annotated[int, typer.Option(min=1, help="How many.")] = 5,
    first_seed: Annotated[int, typer.Option(min=0, help="The first of them.")] = 11,
    rounds: Annotated[int, typer.Option(min=1, help="Of each run.")] = 15,
    quick: Quick = False,
    out: Out = OUT,
    json_output: Json = False,
) -> None:
    """Accuracy after every round with a codec and with whole fp32 models, the same seeds.

    Example: coordinator bench lossless --codec int8 --codec int4,channel --strategy best --partition digit-pairs
    """
    options: dict[str, Any] = {
        "strategy": strategy,
        "partition": partition.value,
        "local_batches": local_batches,
        "seeds": seeds,
        "first_seed": first_seed,
        "rounds": rounds,
        "quick": quick,
    }
    if codec:
        options["codecs"] = tuple(codec)
    _measure("lossless", options, out, json_output)


@bench_app.command()
def poisoning(
    aggregations: Annotated[str, typer.Option(help="mean, median, ..., with commas; all when not given.")] = "",
    partitions: Annotated[str, typer.Option(help="iid, digit-pairs, with a comma.")] = "iid,digit-pairs",
    seeds: Annotated[int, typer.Option(min=1, help="How many: 1, 2, ...")] = 3,
    rounds: Annotated[int, typer.Option(min=1, help="Of each run.")] = 10,
    quick: Quick = False,
    out: Out = OUT,
    json_output: Json = False,
) -> None:
    """Accuracy with one malicious agent of five for FedAvg's mean and for robust aggregation, simulated.

    Example: coordinator bench poisoning --aggregations mean,median --seeds 1
    """
    options = {"partitions": _words(partitions), "seeds": seeds, "rounds": rounds, "quick": quick}
    if aggregations:
        options["aggregations"] = _words(aggregations)
    _measure("poisoning", options, out, json_output)


def _measure(name: str, options: dict[str, Any], out: Path, json_output: bool) -> None:
    """Run one benchmark and show what came of it."""
    from benchmarks import output
    from benchmarks.machine import describe_machine, in_a_sentence

    benchmark = import_module(f"benchmarks.{name}")
    console = talk(json_output)
    # Ends like Ctrl-C, in order: brokers and agents must not outlive us.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with errors_in_one_line():
        machine = describe_machine()
        folder = output.new_folder(out, name)
        console.print(in_a_sentence(machine), soft_wrap=True)
        begin_s = time.monotonic()

        def say(what: str) -> None:
            console.print(f"[{time.monotonic() - begin_s:6.1f} s] {what}", soft_wrap=True, markup=False)

        result = benchmark.run(benchmark.Settings(**options), folder, say)
        command = shlex.join(["coordinator", *sys.argv[1:]])
        content = output.document(name, command, machine, result, time.monotonic() - begin_s)
        picture = output.picture_of(result, benchmark.draw, benchmark.HEIGHT_IN)
        written = output.write(folder, content, picture)
    if json_output:
        print_document(content | {"folder": str(written.folder), "picture": str(written.picture)})
        return
    console.print(output.as_table(result))
    for note in result.notes:
        console.print(note, style="dim", soft_wrap=True)
    for key, value in result.summary.items():
        console.print(f"{key}: {value}", soft_wrap=True, markup=False)
    console.print(f"written to {written.folder}: {written.json_file.name}, {written.picture.name}", soft_wrap=True)


def _numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        with errors_in_one_line():
            raise ConfigError(f"{option} {text}: expected whole numbers with commas, such as 5,50") from error
    return ()


def _percents(text: str) -> tuple[float, ...]:
    try:
        return tuple(sorted(float(part) for part in _words(text)))
    except ValueError as error:
        with errors_in_one_line():
            raise ConfigError(f"--targets {text}: expected percents with commas, such as 85,98.4") from error
    return ()


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
