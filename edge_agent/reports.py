"""An agent's reports: made when a receipt comes, and kept until the coordinator says that they are on its disk."""

from edge_agent.agent_state import AgentState
from edge_agent.events import Measured
from edge_agent.outbox import Outbox
from schemas.measures import Traffic
from schemas.messages import AgentReport

KEPT_REPORTS = 16


class Reports:
    """The reports of one run that are not known to be recorded."""

    def __init__(self, state: AgentState, out: Outbox) -> None:
        self._state = state
        self._out = out
        self._run_id = ""
        self._reports: dict[int, AgentReport] = {}
        self._traffic_mark = Traffic()
        self._cpu_mark_s = 0.0

    def on_measured(self, event: Measured) -> None:
        """The device has measured itself: report what has come since the report before."""
        work = self._state.working_on(event.run_id, event.round_number)
        if work is None:
            return
        traffic = event.traffic.since(self._traffic_mark)
        self._traffic_mark = event.traffic.copy()
        report = work.report(traffic, event, event.cpu_s - self._cpu_mark_s)
        self._cpu_mark_s = event.cpu_s
        self._reports[work.number] = report
        while len(self._reports) > KEPT_REPORTS:
            del self._reports[min(self._reports)]
        self._out.add(self._out.letters.report(work.run_id, work.number, report))

    def settle(self, run_id: str, recorded: tuple[int, ...]) -> None:
        """Forget what is recorded, and what belongs to any other run."""
        if run_id != self._run_id:
            self._run_id, self._reports = run_id, {}
        for number in recorded:
            self._reports.pop(number, None)

    def send_again(self, before: int | None = None) -> None:
        """Send the reports of rounds below `before`, or all of them."""
        for number, report in self._reports.items():
            if before is None or number < before:
                self._out.add(self._out.letters.report(self._run_id, number, report))
