"""Run: one run, round by round."""

from dashboards.panels import RUN_VARIABLE, Dashboard, Panel
from dashboards.queries import OF_RUN, RUN, TIME, Query, raw, totals

_DISTANCE = Query(
    "SELECT round_number, accuracy, target_accuracy - accuracy AS missing, "
    "rounds_planned - round_number AS rounds_left "
    f"FROM fl_round WHERE run_id = {RUN} AND accuracy >= 0 AND {TIME} ORDER BY time DESC LIMIT 1",
    """from(bucket: "fl")
  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
  |> filter(fn: (r) => r._measurement == "fl_round" and r.run_id == "${run_id}")
  |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")
  |> filter(fn: (r) => exists r.accuracy)
  |> last(column: "accuracy")
  |> map(fn: (r) => ({round_number: r.round_number, accuracy: r.accuracy,
      missing: if exists r.target_accuracy then r.target_accuracy - r.accuracy else 0.0,
      rounds_left: r.rounds_planned - r.round_number}))""",
)

RUN_BOARD = Dashboard(
    "run",
    "Federation: run",
    "One run, round by round: how good the model is, who took part, where the time and the bytes went.",
    (RUN_VARIABLE,),
    (
        Panel(
            "Accuracy",
            "line",
            "share",
            raw("fl_round", ["accuracy", "target_accuracy"], OF_RUN),
            "How good is the model, and how did it get there? The level line is the target, where there is one",
        ),
        Panel(
            "Loss",
            "line",
            "",
            raw("fl_round", ["loss", "train_loss"], OF_RUN),
            "Does it still learn? On the held-out test set, and on the devices",
        ),
        Panel(
            "Participants",
            "step",
            "count",
            raw("fl_round", ["num_selected", "num_accepted", "num_refused"], OF_RUN),
            "How many were asked, how many are in the model, how many messages were refused?",
        ),
        Panel(
            "Where a round's time goes",
            "stacked",
            "s",
            raw("fl_round", ["broadcast_s", "wait_s", "aggregate_s", "checkpoint_s", "evaluate_s"], OF_RUN),
            "Which phase takes long? The last two may overlap",
        ),
        Panel(
            "Bytes of a round",
            "stacked",
            "bytes",
            raw("fl_round", ["packet_bytes_up", "packet_bytes_down"], OF_RUN),
            "What does a round cost on the coordinator's line? Whole MQTT packets; up is sent",
        ),
        Panel(
            "How far from the target",
            "table",
            "",
            _DISTANCE,
            "How much accuracy is missing, and how many rounds are left? `missing` is empty without a target",
        ),
        Panel(
            "Refused messages",
            "table",
            "",
            totals({"messages": ("sum", "count")}, "fl_refusal", by=["agent_id", "reason"], where=OF_RUN),
            "Which updates were refused, and why?",
        ),
        Panel(
            "Rounds",
            "table",
            "",
            raw(
                "fl_round",
                ["round_number", "attempt", "accuracy", "loss", "num_accepted", "duration_s", "slowest_agent_id"],
                OF_RUN,
                newest=200,
            ),
            "What was each round like?",
        ),
    ),
    since="7d",
)
