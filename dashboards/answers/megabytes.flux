// Megabytes per device in a month, all runs together. Not run by the tests: see docs/metrics.md.
// Replace :from: and :to: by the first moments of the month and of the next, such as 2026-11-01T00:00:00Z.
from(bucket: "fl")
  |> range(start: :from:, stop: :to:)
  |> filter(fn: (r) => r._measurement == "fl_device")
  |> filter(fn: (r) => r._field == "packet_bytes_up" or r._field == "packet_bytes_down")
  |> group(columns: ["agent_id", "_field"])
  |> sum()
  |> map(fn: (r) => ({r with _value: float(v: r._value) / 1000000.0}))
  |> group(columns: ["agent_id"])
  |> pivot(rowKey: ["agent_id"], columnKey: ["_field"], valueColumn: "_value")
