// How far is a run from its target? Not run by the tests: see docs/metrics.md.
// Replace :run_id: by the run. `missing` needs a target.
from(bucket: "fl")
  |> range(start: -180d)
  |> filter(fn: (r) => r._measurement == "fl_round" and r.run_id == ":run_id:")
  |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")
  |> filter(fn: (r) => exists r.accuracy)
  |> group()
  |> sort(columns: ["_time"], desc: true)
  |> limit(n: 1)
  |> map(fn: (r) => ({r with
      missing: r.target_accuracy - r.accuracy, rounds_left: r.rounds_planned - r.round_number}))
