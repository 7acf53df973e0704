"""What a person sees while a run goes on: one line per round, and a line that moves. Reads records, decides nothing."""

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from coordinator.events import NoteRefusal
from coordinator.summary import num_refused
from schemas.records import DeviceRecord, RoundRecord, RunEvent

_QUIET_EVENTS = frozenset(
    {"started", "agent-online", "target-reached", "round-opened", "broker-connected", "broker-lost"}
)
_COLOURS = {"finished": "green", "aborted": "red"}


class RunDisplay(AbstractContextManager["RunDisplay"]):
    """Live progress on a terminal, plain lines elsewhere.

    Args:
        rounds: how many the run has at most.
        console: where to write; stderr when stdout belongs to a machine.
        min_agents: that the first round waits for.
    """

    def __init__(self, rounds: int, console: Console, min_agents: int = 1) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(text_format="round {task.completed:.0f} of {task.total:.0f}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("loading the model and the test set", total=rounds)
        self._min_agents = min_agents
        self._agents: set[str] = set()
        self._closed_rounds = 0
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
            if self._said:
                self._print("[green]the broker is in reach[/]")
            self._said.clear()
            self._describe_agents()
            if not self._console.is_terminal and not self._closed_rounds:
                self._print(f"connected to the broker; waiting for devices, at least {self._min_agents}")
        else:
            self._describe("waiting for the broker")
            if reason not in self._said:  # an attempt every few seconds must not fill the screen
                self._said.add(reason)
                self._print(f"[yellow]cannot connect:[/] {escape(reason)}; trying again (Ctrl-C stops)")
                if "not authorized" in reason:
                    self._print("  broker.username and broker.password_file are not what the broker knows")

    def on_record(self, record: RoundRecord | DeviceRecord | RunEvent) -> None:
        """A record was made."""
        match record:
            case RoundRecord():
                self._closed_rounds = record.round_number
                self._progress.update(self._task, completed=record.round_number)
                self._print(round_line(record))
            case RunEvent():
                self._on_run_event(record)

    def on_refusal(self, refusal: NoteRefusal) -> None:
        """A message was refused; a flood of them is shown once in a while."""
        self._refusals += 1
        if self._refusals & (self._refusals - 1) == 0:  # 1st, 2nd, 4th, 8th ...
            count = f" ({self._refusals} so far)" if self._refusals > 1 else ""
            sender = refusal.agent_id or "a stranger"
            self._print(f"[yellow]refused[/] {refusal.reason} from {escape(f'{sender}: {refusal.detail}')}{count}")

    def _on_run_event(self, event: RunEvent) -> None:
        agent = event.agent_id or ""
        if event.name == "agent-online":
            self._agents.add(agent)
        elif event.name == "agent-offline":
            self._agents.discard(agent)
        self._describe_agents()
        if event.name not in _QUIET_EVENTS:
            words = " ".join(filter(None, (agent, event.detail)))
            self._print(f"[{_COLOURS.get(event.name, 'yellow')}]{event.name}[/] {escape(words)}")

    def _describe_agents(self) -> None:
        there = len(self._agents)
        if self._closed_rounds or there >= self._min_agents:
            self._describe(f"{there} device{'' if there == 1 else 's'}")
        else:
            self._describe(f"waiting for devices, {there} of {self._min_agents} are there")

    def _describe(self, text: str) -> None:
        self._progress.update(self._task, description=text)

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)


def round_line(record: RoundRecord) -> str:
    """One round in one line."""
    accuracy = f"accuracy {record.accuracy:7.2%}  " if record.accuracy is not None else ""
    loss = f"training loss {record.train_loss:.4f}  " if record.train_loss is not None else ""
    refused = num_refused(record.refused)
    tail = f"  [yellow]{refused} refused[/]" if refused else ""
    return (
        f"round {record.round_number:3d}  {accuracy}{loss}{len(record.accepted)}/{len(record.selected)} updates  "
        f"{record.duration_s:6.2f} s{tail}"
    )
