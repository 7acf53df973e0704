// Which updates and other messages were refused in a run, and why? Not run by the tests: see docs/metrics.md.
// Replace :run_id: by the run. The reasons are those of docs/topics.md.
from(bucket: "fl")
  |> range(start: -180d)
  |> filter(fn: (r) => r._measurement == "fl_refusal" and r.run_id == ":run_id:" and r._field == "count")
  |> group(columns: ["agent_id", "reason"])
  |> sum()
  |> filter(fn: (r) => r._value > 0)
