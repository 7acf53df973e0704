// Which device is the straggler of a run, and since when? Not run by the tests: see docs/metrics.md.
// Replace :run_id: by the run.
means = from(bucket: "fl")
  |> range(start: -180d)
  |> filter(fn: (r) => r._measurement == "fl_device" and r.run_id == ":run_id:" and r._field == "latency_s")
  |> group(columns: ["agent_id"])
  |> mean()
  |> group()

// The device with the highest mean latency, and the others' median; it is a straggler from 1.25 times that on.
slowest = (means |> max() |> findRecord(fn: (key) => true, idx: 0)).agent_id
means |> max() |> yield(name: "straggler")
means |> filter(fn: (r) => r.agent_id != slowest) |> median() |> yield(name: "others")

// Who was last, round by round: in how many rounds it was this device, and the last one in which it was another.
last = from(bucket: "fl")
  |> range(start: -180d)
  |> filter(fn: (r) => r._measurement == "fl_round" and r.run_id == ":run_id:")
  |> filter(fn: (r) => r._field == "round_number" or r._field == "slowest_agent_id")
  |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")
last |> filter(fn: (r) => r.slowest_agent_id == slowest) |> count(column: "round_number") |> yield(name: "last_in_rounds")
last |> filter(fn: (r) => r.slowest_agent_id != slowest) |> last(column: "round_number") |> yield(name: "another_in_round")
