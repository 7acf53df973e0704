"""The report for those over SSH: what the HTML page says, without its pictures, in lines and tables."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from coordinator import summary, tables
from coordinator.report.facts import Facts, settings_of, target_of
from coordinator.reproducibility import digests

BLOCKS = "▁▂▃▄▅▆▇█"
CURVE_WIDTH = 60


def show_report(facts: Facts, console: Console) -> None:
    """Print all of it."""
    for block in _blocks(facts):
        if isinstance(block, str):
            console.print(block, soft_wrap=True)
        else:
            console.print(block)


def _blocks(facts: Facts) -> Iterator[str | Table]:
    rounds = summary.rounds_of(facts.records)
    totals, target = facts.totals, target_of(facts.run.config)
    mb = (totals.packet_bytes_up_per_device + totals.packet_bytes_down_per_device) / tables.MB
    yield f"[bold]{facts.run.run_id}[/]  {escape(tables.state_in_words(facts.state))}"
    yield (
        f"accuracy {tables.percent(totals.final_accuracy)}, {totals.rounds_closed} rounds in "
        f"{totals.duration_s:.1f} s, {len(facts.devices)} devices, {mb:.2f} MB per device, "
        f"{totals.refused} messages refused"
    )
    yield from _accuracy(facts, target)
    if facts.devices:
        yield "\n[bold]Devices[/]"
        yield tables.devices_table(facts.devices, None)
        yield f"[dim]{tables.DEVICES_CAPTION}[/]"
        yield tables.straggler_sentence(facts.straggler, len(rounds))
    if rounds:
        yield "\n[bold]Where a round goes[/] (mean seconds at the coordinator)"
        yield _row({phase.removesuffix("_s"): tables.number(s, 3) for phase, s in totals.phase_s.items()})
        yield "\n[bold]Rounds[/]"
        yield tables.rounds_table(rounds)
    refusals = summary.refusals(rounds)
    yield "\n[bold]Refusals[/]" if refusals else "\nNo message was refused."
    if refusals:
        yield tables.refusals_table(refusals)
    yield from _reproduction(facts)


def _accuracy(facts: Facts, target: float | None) -> Iterator[str | Table]:
    shares = [r.accuracy for r in summary.rounds_of(facts.records) if r.accuracy is not None]
    if not shares:
        return
    yield "\n[bold]Accuracy[/] by round (the study's Figure 3)"
    yield f"{tables.percent(min(shares))} {curve(shares)} {tables.percent(max(shares))}"
    reached = summary.levels(summary.rounds_of(facts.records), [target])
    if reached:
        table = tables.new_table(">accuracy", ">rounds", ">seconds", "")
        for level in reached:
            study = facts.study
            note = f"study: {study.rounds} rounds" if study is not None and study.accuracy == level.accuracy else ""
            table.add_row(f"{level.accuracy:.0%}", str(level.rounds), f"{level.seconds:.1f}", note)
        yield table


def _reproduction(facts: Facts) -> Iterator[str | Table]:
    found = digests(facts.run, facts.records)
    yield "\n[bold]Reproduce it[/] (SHA-256)"
    rows = {
        "seed": found.seed,
        "training plan": found.plan_sha256,
        "models of all rounds": found.models_sha256,
        **{f"model after round {number}": sha256 for number, sha256 in list(found.models.items())[-1:]},
        "config.json": found.config_sha256,
        "record.jsonl": found.record_sha256,
    }
    yield _column({name: value for name, value in rows.items() if value is not None})
    for title, values in (("Machine", "hardware"), ("Versions", "environment")):
        if facts.run.config.get(values):
            yield f"\n[bold]{title}[/]"
            yield _column(facts.run.config[values])
    yield "\n[bold]Configuration[/]"
    yield _column(
        {
            f"{section}.{key}".lstrip("."): value
            for section, values in settings_of(facts.run.config).items()
            for key, value in values.items()
            if section != "plan"
        }
    )


def curve(values: Sequence[float]) -> str:
    """Numbers as a line of blocks, at most `CURVE_WIDTH` of them, from the lowest to the highest."""
    low, high = min(values), max(values)
    step = max(1.0, len(values) / CURVE_WIDTH)
    shown = [values[int(i * step)] for i in range(min(len(values), CURVE_WIDTH))]
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((value - low) * scale)] for value in shown)


def _row(values: Mapping[str, str]) -> Table:
    table = tables.new_table(*(f">{name}" for name in values))
    table.add_row(*values.values())
    return table


def _column(values: Mapping[str, object]) -> Table:
    table = tables.new_table("", "")
    table.show_header = False
    for name, value in values.items():
        table.add_row(name, escape("not set" if value is None else str(value)))
    return table
