"""The federation that the playbook has made of the hosts: starts runs on it and reads what they recorded.

Tests wait for what the parts record, never for time to pass; the limits are for a machine that hangs.
"""

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from schemas.records import RECORDS, DeviceRecord, RoundRecord, RunEvent
from tests.testbed.bed import Bed
from tests.testbed.names import PIS, SERVER, TestbedError, address
from tests.testbed.packages import Packages
from tests.testbed.provisioning import Playbooks

LIMIT_S = 300.0
POLL_S = 0.5
RUNS_FOLDER = "/var/lib/federation/runs"
BROKER_PORT = 8883
METRICS_PORT = 8086
DATABASE = "fl"
TARGET_ACCURACY = 0.9
"""On 8x8 digits that are spread evenly: a few rounds."""


class Run:
    """One run, as its folder on the server tells it.

    Attributes:
        run_id: its name.
    """

    def __init__(self, bed: Bed, run_id: str) -> None:
        self._bed = bed
        self.run_id = run_id

    def records(self) -> list[RoundRecord | DeviceRecord | RunEvent]:
        """Everything recorded so far; a line that is being written does not count."""
        text = self._bed.on(SERVER, f"cat {RUNS_FOLDER}/{self.run_id}/record.jsonl 2>/dev/null || true")
        whole = text[: text.rfind("\n") + 1]
        return [RECORDS.validate_json(line) for line in whole.splitlines()]

    def rounds(self) -> list[RoundRecord]:
        """The closed rounds in order; of one recorded twice, the later record."""
        by_number = {each.round_number: each for each in self.records() if isinstance(each, RoundRecord)}
        return [by_number[number] for number in sorted(by_number)]

    def events(self) -> list[str]:
        """The names of what has happened."""
        return [each.name for each in self.records() if isinstance(each, RunEvent)]

    def wait_for_round(self, number: int) -> None:
        """Wait until the round has closed."""
        self._wait_until(lambda: any(each.round_number >= number for each in self.rounds()), f"close round {number}")

    def wait_until_finished(self) -> None:
        """Wait for the run's end; TestbedError when it is aborted."""
        self._wait_until(lambda: "finished" in self.events(), "finish")

    def show(self) -> dict[str, Any]:
        """What `coordinator show` says."""
        shown: dict[str, Any] = json.loads(self._bed.on(SERVER, f"coordinator show {self.run_id} --json"))
        return shown

    def log(self) -> str:
        """What its unit has said."""
        return self._bed.on(SERVER, f"journalctl --no-pager --unit coordinator-run@{self.run_id}.service")

    def _wait_until(self, condition: Callable[[], bool], what: str) -> None:
        try:
            wait_until(condition, f"run {self.run_id} to {what}", or_until=lambda: "aborted" in self.events())
        except TestbedError as error:
            raise TestbedError(f"{error}; it has recorded {self.events()}, and said:\n{self.log()[-3000:]}") from None


class Federation:
    """The provisioned hosts.

    Attributes:
        bed: the hosts.
        playbooks: what provisioned them.
        packages: what they installed.
    """

    def __init__(self, bed: Bed, playbooks: Playbooks, packages: Packages) -> None:
        self.bed = bed
        self.playbooks = playbooks
        self.packages = packages

    def start_run(
        self, name: str, rounds: Mapping[str, object], *, local_batches: int, agents: Sequence[str] = PIS
    ) -> Run:
        """Hand a run to systemd, as the operator would: `coordinator start RUN.toml`.

        Args:
            name: what its id begins with; the rest is new each time.
            rounds: how many, or until when.
            local_batches: that each agent trains in a round; 8x8 digits, so that a few take no time.
            agents: who has to be in every round.
        """
        run_id = f"{name}-{secrets.token_hex(2)}"
        # The broker is not among them: the playbook has set it for every run.
        tables: dict[str, Mapping[str, object]] = {
            "training": {"local_batches": local_batches},
            "rounds": {**rounds, "min_agents": len(agents), "required_agents": agents},
            "data": {"dataset": "digits"},
        }
        text = f"run_id = {json.dumps(run_id)}\n" + "".join(_toml_table(name, table) for name, table in tables.items())
        self.bed.on(SERVER, f"cat >/root/{run_id}.toml <<'EOF'\n{text}EOF\n")
        self.bed.on(SERVER, f"coordinator start /root/{run_id}.toml --json", limit_s=LIMIT_S)
        return Run(self.bed, run_id)

    def broker_log(self) -> str:
        """What the broker has said."""
        return self.bed.on(SERVER, "journalctl --no-pager --output cat --unit mosquitto.service")

    def unit_state(self, host: str, unit: str) -> str:
        """Such as `active`."""
        return self.bed.on(host, f"systemctl is-active {unit} || true").strip()

    def wait_until_agents_are_connected(self, *hosts: str) -> None:
        """Wait until the agents of these hosts (or all) say that the broker has let them in."""
        for host in hosts or PIS:
            wait_until(partial(self.is_connected, host), f"the agent of {host} to be connected")

    def is_connected(self, host: str) -> bool:
        """True when the agent of a host says that the broker has let it in."""
        status = self.bed.on(host, "systemctl show edge-agent --property=StatusText --value")
        return status.startswith("connected")  # and not "not connected: ..."

    def process_of_agent(self, host: str) -> str:
        """Changes when the agent of a host is started anew."""
        return self.bed.on(host, "systemctl show edge-agent --property=MainPID --property=NRestarts")

    def query(self, statement: str, password: str | None = None) -> list[dict[str, Any]]:
        """Ask InfluxDB on the server, as the reader whom the playbook has made; the rows of the answer.

        Args:
            statement: InfluxQL.
            password: the reader's; the one that the playbook has made up when not given.
        """
        password = password or (self.playbooks.secrets / "influxdb" / "reader").read_text().strip()
        options = {
            "url": f"https://{address(SERVER)}:{METRICS_PORT}/query",
            "user": f"monitor:{password}",
            "cacert": "/etc/federation/coordinator/tls/ca.crt",
            "data-urlencode": f"q={statement}",
        }
        config = "".join(f"{key} = {json.dumps(value)}\n" for key, value in options.items())
        curl = f"curl --silent --show-error --fail --get --data-urlencode db={DATABASE} --config -"
        answer = json.loads(self.bed.on(SERVER, f"{curl} <<'EOF'\n{config}EOF\n"))
        return [
            dict(zip(series["columns"], values, strict=True)) | series.get("tags", {})
            for result in answer["results"]
            for series in result.get("series", [])
            for values in series["values"]
        ]


def wait_until(
    condition: Callable[[], bool], what: str, *, or_until: Callable[[], bool] = lambda: False, limit_s: float = LIMIT_S
) -> None:
    """Wait for a condition; TestbedError when it does not come true in good time, or `or_until` does first."""
    deadline_s = time.monotonic() + limit_s
    while not condition():
        if or_until() or time.monotonic() > deadline_s:
            raise TestbedError(f"waited in vain for {what}")
        time.sleep(POLL_S)


def _toml_table(name: str, values: Mapping[str, object]) -> str:
    # Strings, numbers, booleans and lists look the same in JSON.
    return f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
