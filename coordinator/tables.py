"""What a person reads about runs on a terminal: tables and sentences. Numbers come from `summary.py`."""

import time
from collections.abc import Iterable, Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from coordinator.answers import DeviceMegabytes, Pace, Progress, Refusal
from coordinator.run_summary import RunSummary
from coordinator.summary import STRAGGLER_FACTOR, DeviceSummary, Straggler, num_refused
from schemas.records import RoundRecord

MB = 1e6
NOTHING = "-"


def runs_table(runs: Iterable[RunSummary]) -> Table:
    """All runs, newest first."""
    table = new_table("run", "started", "state", ">rounds", ">accuracy")
    for run in runs:
        state = state_in_words(run) if run.state == "running" else run.state
        table.add_row(
            run.run_id, moment(run.started_at, "%Y-%m-%d %H:%M"), state, str(run.rounds_closed), percent(run.accuracy)
        )
    return table


def rounds_table(rounds: Iterable[RoundRecord]) -> Table:
    """One line per round."""
    table = new_table(">round", ">accuracy", ">loss", ">training loss", ">updates", ">refused", ">seconds", ">waiting")
    for record in rounds:
        table.add_row(
            f"{record.round_number}" + (f" (attempt {record.attempt})" if record.attempt > 1 else ""),
            percent(record.accuracy),
            number(record.loss, 4),
            number(record.train_loss, 4),
            f"{len(record.accepted)}/{len(record.selected)}",
            str(num_refused(record.refused) or NOTHING),
            number(record.duration_s, 2),
            number(record.wait_s, 2),
        )
    return table


def refusals_table(refusals: Mapping[str, Mapping[str, int]]) -> Table:
    """Refused messages by reason and sender."""
    table = new_table("refused because", ">messages", "from")
    for reason, by_agent in refusals.items():
        senders = ", ".join(f"{agent} ({count})" for agent, count in by_agent.items())
        table.add_row(reason, str(sum(by_agent.values())), senders)
    return table


def megabytes_table(devices: Iterable[DeviceMegabytes]) -> Table:
    """What each device moved."""
    table = new_table("device", ">MB sent", ">MB received", ">MB")
    for device in devices:
        values = (device.mb_up, device.mb_down, device.mb_up + device.mb_down)
        table.add_row(device.agent_id, *(number(value, 2) for value in values))
    return table


def refusal_rows(refusals: Iterable[Refusal]) -> Table:
    """Refused messages, a line per sender and reason."""
    table = new_table("from", "refused because", ">messages", "in rounds")
    for refusal in refusals:
        first, last = refusal.first_round, refusal.last_round
        rounds = f"{first}" if first == last else f"{first} to {last}"
        table.add_row(refusal.agent_id, refusal.reason, str(refusal.messages), rounds)
    return table


def pace_sentences(now: Pace, before: Pace) -> list[str]:
    """How long a round takes, and whether that has changed."""
    lines = [
        f"{when}: {pace.mean_s:.2f} s a round, {pace.max_s:.2f} s at most, in {pace.rounds} rounds"
        if pace.mean_s is not None and pace.max_s is not None
        else f"{when}: no round"
        for when, pace in (("last 24 hours", now), ("the 7 days before", before))
    ]
    if now.mean_s is not None and before.mean_s:
        lines.append(f"change: {now.mean_s / before.mean_s - 1:+.0%}")
    return lines


def progress_sentence(progress: Progress | None) -> str:
    """How far it is."""
    if progress is None:
        return "no round has been evaluated yet"
    words = [f"accuracy {percent(progress.accuracy)} after round {progress.round_number}"]
    if progress.target_accuracy is None:
        words.append("no target was set")
    elif progress.missing is not None and progress.missing <= 0:
        words.append(f"its target of {percent(progress.target_accuracy)} is reached")
    else:
        words.append(f"{percent(progress.missing)} to go to {percent(progress.target_accuracy)}")
        if progress.rounds_needed is not None:
            words.append(f"about {progress.rounds_needed} more rounds at the pace of the last ones")
    if progress.rounds_left:
        words.append(f"it ends after {progress.rounds_left} more at the latest")
    return "; ".join(words)


DEVICES_CAPTION = "train, comm, idle, latency: mean seconds a round; MB: MQTT packets, sent and received; RAM: MB"


def devices_table(devices: Sequence[DeviceSummary], now_s: float | None) -> Table:
    """One line per device; `DEVICES_CAPTION` explains the columns.

    Args:
        now_s: UTC seconds while the run goes on, to say how long ago a device was seen; None afterwards.
    """
    warm = any(device.max_cpu_temperature_c is not None for device in devices)
    columns = ("device", "last seen", ">rounds", ">train", ">comm", ">idle", ">latency", ">MB", ">RAM")
    table = new_table(*columns, *((">max C",) if warm else ()), ">refused")
    for device in devices:
        temperature = number(device.max_cpu_temperature_c, 0) + (" !" if device.throttled_reports else "")
        table.add_row(
            device.agent_id,
            _seen(device, now_s),
            f"{device.rounds_accepted}/{device.rounds_selected}",
            number(device.train_s, 2),
            number(communication_s(device), 2),
            number(device.idle_s, 2),
            number(device.latency_s, 2),
            number((device.packet_bytes_up + device.packet_bytes_down) / MB, 2),
            number(device.peak_rss_bytes / MB if device.peak_rss_bytes is not None else None, 0),
            *((temperature,) if warm else ()),
            str(sum(device.refused.values()) or NOTHING),
        )
    return table


def comparison_table(rows: Mapping[str, Sequence[object]], names: Sequence[str], what: str) -> Table:
    """Runs side by side."""
    table = new_table(what, *names)
    for name, values in rows.items():
        table.add_row(name, *(escape("not set" if value is None else str(value)) for value in values))
    return table


def communication_s(device: DeviceSummary) -> float | None:
    """Mean seconds of a round spent on downloading and uploading."""
    return None if device.download_s is None or device.upload_s is None else device.download_s + device.upload_s


def straggler_sentence(straggler: Straggler | None, num_rounds: int) -> str:
    """Who holds the rounds up."""
    if straggler is None:
        return f"no straggler: no device takes {STRAGGLER_FACTOR:g} times as long as the others"
    since = f", in every one since round {straggler.since_round}" if straggler.since_round else ""
    return (
        f"straggler {straggler.agent_id}: {straggler.latency_s:.2f} s a round, the others "
        f"{straggler.others_latency_s:.2f} s; last in {straggler.last_in_rounds} of {num_rounds} rounds{since}; "
        f"the others waited {straggler.cost_s:.1f} s for it"
    )


def state_in_words(run: RunSummary, where: str = "") -> str:
    """Where a run stands, and what can be done about it."""
    if run.state == "running":
        return f"running, pid {run.pid}" if run.pid else "running"
    return f"stopped: coordinator resume {run.run_id}{where}" if run.state == "stopped" else run.state


def moment(utc_s: float | None, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A moment in local time."""
    return time.strftime(form, time.localtime(utc_s)) if utc_s is not None else NOTHING


def ago(seconds: float) -> str:
    """How long ago, as one says it."""
    for unit, size_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size_s:
            return f"{seconds / size_s:.0f} {unit} ago"
    return f"{max(0.0, seconds):.0f} s ago"


def percent(share: float | None) -> str:
    """A share of one as per cent."""
    return f"{share:.2%}" if share is not None else NOTHING


def number(value: float | None, digits: int) -> str:
    """A number, or a dash."""
    return f"{value:.{digits}f}" if value is not None else NOTHING


def _seen(device: DeviceSummary, now_s: float | None) -> str:
    if device.quarantined:
        return "quarantined"
    if device.last_seen_at is None:
        return "never"
    if now_s is None:
        return moment(device.last_seen_at, "%m-%d %H:%M")
    return ago(now_s - device.last_seen_at) + ("" if device.online else ", offline")


def new_table(*columns: str) -> Table:
    """A table; columns that start with `>` hold numbers."""
    # One space between columns: a table of devices has to fit into 80 columns.
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        if column.startswith(">"):
            table.add_column(column[1:], justify="right", no_wrap=True)
        else:
            table.add_column(column, overflow="fold")
    return table
