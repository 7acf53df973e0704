// How long does a round take now, and how long last week? Not run by the tests: see docs/metrics.md.
rounds = (start, stop) => from(bucket: "fl")
  |> range(start: start, stop: stop)
  |> filter(fn: (r) => r._measurement == "fl_round" and r._field == "duration_s")
  |> group()

// Now: the last 24 hours. Last week: the seven days before those.
rounds(start: -1d, stop: now()) |> mean() |> yield(name: "now")
rounds(start: -8d, stop: -1d) |> mean() |> yield(name: "last_week")
