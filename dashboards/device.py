"""Device: one device in one run, and where it stands among the others."""

from dashboards.panels import AGENT_VARIABLE, RUN_VARIABLE, Dashboard, Panel
from dashboards.queries import OF_DEVICE, OF_RUN, RUN, TIME, Query, raw, totals

_RANK = Query(
    "SELECT top(latency_s, agent_id, 10) AS latency_s FROM (SELECT mean(latency_s) AS latency_s FROM fl_device "
    f"WHERE run_id = {RUN} AND {TIME} GROUP BY agent_id)",
    """from(bucket: "fl")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r._measurement == "fl_device" and r.run_id == "${run_id}" and r._field == "latency_s")
  |> group(columns: ["agent_id"])
  |> mean()
  |> group()
  |> top(n: 10)""",
)

DEVICE = Dashboard(
    "device",
    "Federation: device",
    "One device in one run: what it does in each round, and whether the others wait for it.",
    (RUN_VARIABLE, AGENT_VARIABLE),
    (
        Panel(
            "Compute, download, upload and idle",
            "stacked",
            "s",
            raw("fl_device", ["train_s", "download_s", "upload_s", "idle_s"], OF_DEVICE),
            "What does the device do in each round?",
            width=8,
        ),
        Panel(
            "Straggler rank",
            "table",
            "",
            _RANK,
            "Who is slow? The ten devices of the run with the highest mean latency",
            width=4,
        ),
        Panel(
            "Latency",
            "line",
            "s",
            raw("fl_device", ["latency_s"], OF_DEVICE),
            "How long from the announcement to its counted update?",
        ),
        Panel(
            "Last in its round",
            "table",
            "",
            raw("fl_round", ["round_number", "slowest_agent_id", "slowest_latency_s"], OF_RUN, newest=50),
            "Whom did the others wait for, and since when?",
        ),
        Panel(
            "Bytes of a round",
            "stacked",
            "bytes",
            raw("fl_device", ["packet_bytes_up", "packet_bytes_down"], OF_DEVICE),
            "What does a round cost on the device's line? Whole MQTT packets; up is sent",
        ),
        Panel(
            "CPU seconds",
            "line",
            "s",
            raw("fl_device", ["cpu_s"], OF_DEVICE),
            "How much of its processor does it need?",
        ),
        Panel(
            "CPU temperature",
            "line",
            "celsius",
            raw("fl_device", ["cpu_temperature_c"], OF_DEVICE),
            "Does it run hot?",
            width=4,
        ),
        Panel(
            "Training loss",
            "line",
            "",
            raw("fl_device", ["loss"], OF_DEVICE),
            "Does it learn from its own data?",
            width=4,
        ),
        Panel(
            "Coming and going",
            "table",
            "",
            raw("fl_event", ["name", "detail", "round_number"], OF_DEVICE, newest=50),
            "When was it away?",
            width=4,
        ),
        Panel(
            "Over the whole run",
            "table",
            "",
            totals(
                {
                    "latency_s": ("mean", "latency_s"),
                    "train_s": ("mean", "train_s"),
                    "download_s": ("mean", "download_s"),
                    "upload_s": ("mean", "upload_s"),
                    "idle_s": ("mean", "idle_s"),
                },
                "fl_device",
                by=["agent_id"],
                where=OF_RUN,
            ),
            "Where does each device's time go, beside the others? Means of a round",
            width=12,
        ),
    ),
    since="7d",
)
