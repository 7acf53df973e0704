"""Fleet: all devices, over all runs."""

from dashboards.panels import Dashboard, Panel
from dashboards.queries import INTERVAL, TIME, Query, totals, windowed

_THROTTLED = Query(
    f"SELECT count(throttled) AS throttled FROM fl_device WHERE throttled = true AND {TIME} "
    f"GROUP BY time({INTERVAL}), agent_id fill(none)",
    """from(bucket: "fl")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r._measurement == "fl_device" and r._field == "throttled" and r._value == true)
  |> group(columns: ["agent_id"])
  |> aggregateWindow(every: v.windowPeriod, fn: count, createEmpty: false)""",
)

_HAPPENED = Query(
    'SELECT "name", agent_id, run_id, detail FROM fl_event '
    f"WHERE \"name\" != 'round-opened' AND {TIME} ORDER BY time DESC LIMIT 50",
    """from(bucket: "fl")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r._measurement == "fl_event" and r._field == "detail" and r.name != "round-opened")
  |> group()
  |> sort(columns: ["_time"], desc: true)
  |> limit(n: 50)""",
)

FLEET = Dashboard(
    "fleet",
    "Federation: fleet",
    "Every device, whatever run it takes part in: who is there, how warm, how full, what was refused.",
    (),
    (
        Panel(
            "Online now",
            "table",
            "",
            totals({"online": ("last", "online")}, "fl_event", by=["agent_id"]),
            "Who is online? 1 there, 0 gone; the time is that of the last change",
            width=4,
        ),
        Panel(
            "Online over time",
            "step",
            "count",
            windowed("last", "fl_event", "online", "online", by=["agent_id"], fill="previous"),
            "When did a device come and go?",
            width=8,
        ),
        Panel(
            "CPU temperature",
            "line",
            "celsius",
            windowed("max", "fl_device", "cpu_temperature_c", "temperature_c", by=["agent_id"]),
            "Which device runs hot?",
        ),
        Panel(
            "Throttled rounds",
            "bar",
            "count",
            _THROTTLED,
            "Which device's processor is held back by heat or a weak power supply? Empty when none is",
        ),
        Panel(
            "Memory",
            "line",
            "bytes",
            windowed("max", "fl_device", "peak_rss_bytes", "peak_rss_bytes", by=["agent_id"]),
            "How much memory does the agent need at most?",
        ),
        Panel(
            "Refused messages by reason",
            "bar",
            "count",
            windowed("sum", "fl_refusal", "count", "messages", by=["reason"]),
            "What is refused, and why? The reasons are those of docs/topics.md",
        ),
        Panel(
            "Refused messages by device",
            "table",
            "",
            totals({"messages": ("sum", "count")}, "fl_refusal", by=["agent_id", "reason"]),
            "Whose messages are refused?",
        ),
        Panel(
            "Bytes by device",
            "table",
            "",
            totals(
                {"bytes_up": ("sum", "packet_bytes_up"), "bytes_down": ("sum", "packet_bytes_down")},
                "fl_device",
                by=["agent_id"],
            ),
            "How much traffic did each device have in the time shown? Whole MQTT packets",
        ),
        Panel(
            "Duration of a round, by day",
            "bar",
            "s",
            windowed("mean", "fl_round", "duration_s", "duration_s", every="1d"),
            "Do rounds take longer than they did?",
        ),
        Panel(
            "What happened",
            "table",
            "",
            _HAPPENED,
            "What happened last? Leaves out that rounds opened",
        ),
    ),
    since="7d",
)
