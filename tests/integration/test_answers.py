"""`coordinator answers` and the saved queries give the same numbers, of recorded runs and of a real one."""

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from coordinator.cli import app
from coordinator.influx import InfluxSink
from coordinator.run_folder import RunFolder
from coordinator.shipping import push
from tests.integration.conftest import Influx
from tests.integration.influx_servers import InfluxServers
from tests.integration.shipped_run import ShippedRun
from tests.sample_records import device_record, round_record

FOLDER = Path(__file__).parents[2] / "dashboards" / "answers"
DAY_S = 86_400.0
Row = dict[str, Any]

pytestmark = pytest.mark.timeout(240)


class Place(NamedTuple):
    """Where to ask: a server's database, and the folder of the same runs."""

    servers: InfluxServers
    database: str
    runs: Path
    run_id: str

    def query(self, name: str, **values: str) -> list[list[Row]]:
        """The rows of each statement of a saved query."""
        text = "\n".join(
            line for line in (FOLDER / f"{name}.influxql").read_text().splitlines() if not line.startswith("--")
        )
        for mark, value in {"run_id": self.run_id, **values}.items():
            text = text.replace(f":{mark}:", value)
        statements = [statement.strip() for statement in text.split(";") if statement.strip()]
        return [self.servers.query(statement, self.database) for statement in statements]

    def command(self, name: str, *arguments: str) -> Any:
        """What the command says."""
        result = CliRunner().invoke(app, ["answers", name, *arguments, "--runs", str(self.runs), "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


@pytest.fixture
def recorded(influx: Influx, tmp_path: Path) -> Place:
    """Two runs of three devices: one of last week, and one of today in which pi-3 becomes the straggler."""
    now_s = time.time()
    for run_id, began_s, slow_from in (("last-week", now_s - 3 * DAY_S, 99), ("today", now_s - 600, 3)):
        run = RunFolder.create(tmp_path / "runs", run_id, {})
        with run.lock():
            for number in range(1, 7):
                started_at = began_s + 60 * number
                latencies = {"pi-1": 2.0, "pi-2": 2.25, "pi-3": 1.9 if number < slow_from else 8.0 + number}
                slowest = max(latencies, key=lambda agent_id: latencies[agent_id])
                for agent_id, latency_s in latencies.items():
                    run.append(
                        device_record(number, agent_id, run_id=run_id, started_at=started_at, latency_s=latency_s)
                    )
                run.append(
                    round_record(
                        number,
                        run_id=run_id,
                        started_at=started_at,
                        accepted=tuple(latencies),
                        duration_s=max(latencies.values()) + 1.0,
                        accuracy=0.1 * number,
                        slowest_agent_id=slowest,
                        slowest_latency_s=latencies[slowest],
                        refused={"pi-2": {"stale-round": number}, "unknown": {"malformed": 1}} if number > 4 else {},
                    )
                )
        sink = InfluxSink(influx.settings)
        push(run, sink)
        sink.close()
    return Place(influx.servers, influx.database, tmp_path / "runs", "today")


@pytest.fixture
def real(shipped_run: ShippedRun) -> Place:
    return Place(shipped_run.servers, shipped_run.database, shipped_run.runs, shipped_run.run.run_id)


@pytest.fixture(params=["recorded", "real"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


def test_straggler_is_the_same_when_one_stands_out(recorded: Place) -> None:
    answer = recorded.command("straggler", "today")["straggler"]

    first, others, last_in, before = recorded.query("straggler", agent_id=answer["agent_id"])

    assert first[0]["agent_id"] == answer["agent_id"] == "pi-3"
    assert first[0]["latency_s"] == pytest.approx(answer["latency_s"])
    assert others[0]["others_latency_s"] == pytest.approx(answer["others_latency_s"])
    assert last_in[0]["last_in_rounds"] == answer["last_in_rounds"] == 4
    assert before[0]["another_in_round"] + 1 == answer["since_round"] == 3


def test_nobody_stands_out_in_either_when_all_are_alike(recorded: Place) -> None:
    assert recorded.command("straggler", "last-week")["straggler"] is None

    [slowest], [others] = recorded._replace(run_id="last-week").query("straggler", agent_id="pi-2")[:2]

    assert slowest["agent_id"] == "pi-2"
    assert slowest["latency_s"] < 1.25 * others["others_latency_s"]


def test_straggler_of_a_real_run_has_the_same_latency_in_both(real: Place) -> None:
    answer = real.command("straggler")["straggler"]
    slowest = real.query("straggler")[0][0]
    others = real.query("straggler", agent_id=slowest["agent_id"])[1][0]["others_latency_s"]

    assert (answer is not None) == (slowest["latency_s"] >= 1.25 * others)
    if answer is not None:
        assert (answer["agent_id"], answer["latency_s"]) == (
            slowest["agent_id"],
            pytest.approx(slowest["latency_s"]),
        )


def test_megabytes_are_the_same_when_asked_for_this_month(place: Place) -> None:
    moment = time.gmtime()
    month, following = time.strftime("%Y-%m", moment), (moment.tm_year + moment.tm_mon // 12, moment.tm_mon % 12 + 1)
    bounds = {"from": f"{month}-01T00:00:00Z", "to": f"{following[0]}-{following[1]:02}-01T00:00:00Z"}

    answer = place.command("megabytes")

    [rows] = place.query("megabytes", **bounds)
    assert answer["month"] == month
    assert [(d["agent_id"], d["mb_up"], d["mb_down"]) for d in answer["devices"]] == [
        (row["agent_id"], pytest.approx(row["mb_up"]), pytest.approx(row["mb_down"])) for row in rows
    ]
    assert rows


def test_pace_is_the_same_when_there_were_rounds_last_week(recorded: Place) -> None:
    answer = recorded.command("pace")

    now, before = recorded.query("pace")

    for said, [row] in ((answer["now"], now), (answer["last_week"], before)):
        assert said == {
            "rounds": row["rounds"],
            "mean_s": pytest.approx(row["mean_s"]),
            "max_s": pytest.approx(row["max_s"]),
        }
    assert (answer["now"]["rounds"], answer["last_week"]["rounds"]) == (6, 6)


def test_pace_is_the_same_when_a_real_run_was_the_first(real: Place) -> None:
    answer = real.command("pace")

    now, before = real.query("pace")

    assert answer["now"]["mean_s"] == pytest.approx(now[0]["mean_s"])
    assert (answer["last_week"], before) == ({"rounds": 0, "mean_s": None, "max_s": None}, [])


def test_refusals_are_the_same_when_asked_for(place: Place) -> None:
    answer = place.command("refusals", place.run_id)["refusals"]

    [rows] = place.query("refusals")

    assert [tuple(refusal.values()) for refusal in answer] == [
        (row["agent_id"], row["reason"], row["messages"], row["first_round"], row["last_round"]) for row in rows
    ]
    assert rows


def test_progress_is_the_same_when_asked_for(place: Place) -> None:
    answer = place.command("progress", place.run_id)["progress"]

    [[row]] = place.query("progress")

    assert answer["round_number"] == row["round_number"]
    assert answer["rounds_left"] == row["rounds_left"]
    for name in ("accuracy", "target_accuracy", "missing"):
        assert answer[name] == pytest.approx(row[name])


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.influxql")), ids=lambda path: path.stem)
def test_every_saved_query_has_a_flux_version(path: Path) -> None:
    assert path.with_suffix(".flux").is_file()
