"""The doctor's findings as a person reads them: each as soon as it is there, then a verdict."""

from collections.abc import Callable, Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_agent.doctor.checkup import Announce
from edge_agent.doctor.findings import Finding, Status

PIPE_WIDTH = 160
"""Columns where no terminal says how many there are."""

_LOOKS = {
    Status.OK: "green",
    Status.NOTE: "cyan",
    Status.WARNING: "yellow",
    Status.PROBLEM: "bold red",
    Status.SKIPPED: "dim",
}


def show_findings(examine: Callable[[Announce], Iterable[Finding]], *, quiet: bool) -> list[Finding]:
    """Run the examination and show it on the way; with `quiet`, only what is being done, on stderr."""
    console = Console(stderr=quiet, highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    findings = []
    with console.status("looking around") as status:
        for finding in examine(status.update):
            findings.append(finding)
            if not quiet:
                console.print(_row(finding))
    if not quiet:
        console.print(_verdict(findings))
    return findings


def _row(finding: Finding) -> Table:
    """A table of one row, as wide as the others, so that they stand below each other."""
    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_column(width=7, style=_LOOKS[finding.status])
    row.add_column(width=13)
    row.add_column(overflow="fold")
    row.add_row(finding.status, finding.check, escape(finding.detail))
    if finding.fix:
        row.add_row("", "", f"[bold]-> {escape(finding.fix)}[/]")
    return row


def _verdict(findings: list[Finding]) -> str:
    problems = sum(finding.status is Status.PROBLEM for finding in findings)
    if problems:
        return f"[bold red]{problems} problem{'s' if problems > 1 else ''}[/]: the agent cannot work like this"
    warnings = sum(finding.status is Status.WARNING for finding in findings)
    with_warnings = f", with {warnings} warning{'s' if warnings > 1 else ''}" if warnings else ""
    return f"[green]the agent can work[/]{with_warnings}"
