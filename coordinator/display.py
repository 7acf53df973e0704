"""What a person sees while a run goes on: one line per round, and a line that moves. Reads records, decides nothing."""

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from coordinator.events import NoteRefusal
from schemas.records import DeviceRecord, RoundRecord, RunEvent

_QUIET_EVENTS = frozenset({"started", "agent-online", "target-reached"})


class RunDisplay(AbstractContextManager["RunDisplay"]):
    """Live progress on a terminal, plain lines elsewhere.

    Args:
        rounds: how many the run has at most.
        console: where to write; stderr when stdout belongs to a machine.
    """

    def __init__(self, rounds: int, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("round {task.completed}/{task.total}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("connecting to the broker", total=rounds)
        self._agents: set[str] = set()
        self._refusals = 0
        self._said: set[str] = set()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def on_connection(self, connected: bool, reason: str) -> None:
        """The broker came into reach, or went out of it."""
        if connected:
            self._said.clear()
            self._describe("waiting for agents")
        else:
            self._describe("waiting for the broker")
            if reason not in self._said:  # an attempt every few seconds must not fill the screen
                self._said.add(reason)
                self._console.print(f"[yellow]broker out of reach:[/] {reason}; trying again")

    def on_record(self, record: RoundRecord | DeviceRecord | RunEvent) -> None:
        """A record was made."""
        match record:
            case RoundRecord():
                self._progress.update(self._task, completed=record.round_number)
                self._console.print(round_line(record), highlight=False)
            case RunEvent():
                self._on_run_event(record)

    def on_refusal(self, refusal: NoteRefusal) -> None:
        """A message was refused; a flood of them is shown once in a while."""
        self._refusals += 1
        if self._refusals & (self._refusals - 1) == 0:  # 1st, 2nd, 4th, 8th ...
            self._console.print(
                f"[yellow]refused[/] {refusal.reason} from {refusal.agent_id or 'unknown'}: {refusal.detail}"
                f" ({self._refusals} so far)",
                highlight=False,
            )

    def _on_run_event(self, event: RunEvent) -> None:
        agent = event.agent_id or ""
        if event.name == "agent-online":
            self._agents.add(agent)
        elif event.name == "agent-offline":
            self._agents.discard(agent)
        self._describe(f"{len(self._agents)} agents")
        if event.name not in _QUIET_EVENTS:
            colour = {"finished": "green", "aborted": "red"}.get(event.name, "yellow")
            self._console.print(f"[{colour}]{event.name}[/] {agent} {event.detail}".replace("  ", " "), highlight=False)

    def _describe(self, text: str) -> None:
        self._progress.update(self._task, description=text)


def round_line(record: RoundRecord) -> str:
    """One round in one line."""
    accuracy = f"accuracy {record.accuracy:7.2%}" if record.accuracy is not None else ""
    loss = f"  training loss {record.train_loss:.4f}" if record.train_loss is not None else ""
    refused = sum(sum(reasons.values()) for reasons in record.refused.values())
    tail = f"  [yellow]{refused} refused[/]" if refused else ""
    return (
        f"round {record.round_number:3d}  {accuracy}{loss}  {len(record.accepted)}/{len(record.selected)} updates  "
        f"{record.duration_s:6.2f} s{tail}"
    )
