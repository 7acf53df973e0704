// The second view: round by round and device by device, for the engineer.

import { axis, chart, colour, legend, line, nearest } from "./charts.js";
import { byId, element, list, pager, row, setText, show } from "./dom.js";
import { bytes, moment, number, percent, plural, seconds } from "./format.js";
import { headline } from "./headline.js";
import { follow } from "./live.js";

const asked = new URLSearchParams(location.search);
const wanted = { run: asked.get("run") ?? "", page: 1, query: "", sort: "device", round: "", timeline_page: 1, rounds_page: 1 };
let shownRun = null;

const PHASES = [
  ["broadcast_s", "Broadcast", "network"],
  ["wait_s", "Waiting for updates", "waiting"],
  ["aggregate_s", "Aggregation", "coordinator"],
  ["checkpoint_s", "Checkpoint", "ok"],
  ["evaluate_s", "Evaluation", "accent"],
];
const STEPS = [
  ["download_s", "Download", "network"],
  ["train_s", "Training", "compute"],
  ["upload_s", "Upload", "upload"],
];

const inTicks = (format) => ({ ticks: { callback: (value) => format(value) } });
const inTooltip = (format, axisName = "y") => ({
  callbacks: { label: (item) => `${item.dataset.label}: ${format(item.parsed[axisName])}` },
  filter: (item) => item.parsed[axisName] !== null && item.parsed[axisName] > 0,
});

const drawAccuracy = chart(byId("accuracy-chart"), (rounds) => ({
  type: "line",
  data: {
    labels: rounds.number,
    datasets: [
      line("Accuracy", rounds.accuracy, "accent"),
      line("Test loss", rounds.loss, "network", { yAxisID: "loss" }),
      line("Training loss", rounds.train_loss, "muted", { yAxisID: "loss", borderDash: [4, 4] }),
    ].filter((dataset) => dataset.data.some((value) => value !== null)),
  },
  options: {
    interaction: nearest,
    scales: {
      x: axis("Round", { grid: { display: false } }),
      y: axis("Accuracy", { min: 0, max: 1, ticks: { stepSize: 0.25, callback: (value) => percent(value, 0) }, display: "auto" }),
      loss: axis("Loss", { position: "right", min: 0, grid: { drawOnChartArea: false }, display: "auto" }),
    },
    plugins: {
      legend: legend({ lines: true }),
      tooltip: { callbacks: { title: ([item]) => `Round ${item.label}`, label: (item) => `${item.dataset.label}: ${item.dataset.yAxisID === "loss" ? number(item.parsed.y, 4) : percent(item.parsed.y, 2)}` } },
    },
  },
}));

const drawPhases = chart(byId("phases-chart"), (rounds) => ({
  type: "bar",
  data: {
    labels: rounds.number,
    datasets: PHASES.map(([key, label, paint]) => ({ label, data: rounds[key], backgroundColor: colour(paint), stack: "round", barPercentage: 0.95, categoryPercentage: 0.9 })),
  },
  options: {
    interaction: nearest,
    scales: { x: axis("Round", { stacked: true, grid: { display: false } }), y: axis("Seconds", { stacked: true }) },
    plugins: { legend: legend(), tooltip: { ...inTooltip(seconds), callbacks: { ...inTooltip(seconds).callbacks, title: ([item]) => `Round ${item?.label}` } } },
  },
}));

const drawBytes = chart(byId("bytes-chart"), (rounds) => ({
  type: "line",
  data: {
    labels: rounds.number,
    datasets: [line("Sent", rounds.packet_bytes_up, "network"), line("Received", rounds.packet_bytes_down, "compute")],
  },
  options: {
    interaction: nearest,
    scales: { x: axis("Round", { grid: { display: false } }), y: axis("", { min: 0, ...inTicks(bytes) }) },
    plugins: { legend: legend({ lines: true }), tooltip: { ...inTooltip(bytes), callbacks: { ...inTooltip(bytes).callbacks, title: ([item]) => `Round ${item?.label}` } } },
  },
}));

const drawTimeline = chart(byId("timeline"), ({ items, coordinator }) => {
  const withCoordinator = coordinator !== null;
  const labels = [...(withCoordinator ? ["coordinator"] : []), ...items.map((item) => item.agent_id)];
  const dataset = (label, paint, values) => ({ label, data: values, backgroundColor: colour(paint), stack: "one", maxBarThickness: 18 });
  const ofCoordinator = PHASES.map(([key, label, paint]) => dataset(label, paint, [coordinator?.[key] ?? null, ...items.map(() => null)]));
  const ofDevices = STEPS.map(([key, label, paint]) => dataset(label, paint, [...(withCoordinator ? [null] : []), ...items.map((item) => item[key] ?? null)]));
  return {
    type: "bar",
    data: { labels, datasets: [...ofDevices, ...(withCoordinator ? ofCoordinator : [])] },
    options: {
      indexAxis: "y",
      interaction: { mode: "index", axis: "y", intersect: false },
      scales: {
        x: axis("Seconds since the round was announced", { stacked: true, min: 0 }),
        y: axis("", { stacked: true, grid: { display: false }, ticks: { autoSkip: false, color: colour("text") } }),
      },
      plugins: { legend: legend(), tooltip: inTooltip(seconds, "x") },
    },
  };
});

function present(news) {
  headline(news.headline, null);
  for (const card of document.querySelectorAll(".needs-run")) show(card, news.run !== null);
  const some = Boolean(news.totals?.rounds_closed);
  for (const card of document.querySelectorAll(".needs-rounds")) show(card, some);
  if (news.run === null) return;
  if (news.run.run_id !== shownRun) {
    shownRun = news.run.run_id;
    loadRuns();
  }
  presentRun(news);
  presentTimeline(news.timeline);
  if (some) {
    drawAccuracy(news.chart);
    drawPhases(news.chart);
    drawBytes(news.chart);
  }
  presentDevices(news.devices);
  presentRounds(news.rounds);
  presentRefusals(news.refusals);
  list(byId("events"), news.events, eventKey, (event) =>
    row(moment(event.at, true), event.name, [number(event.round_number), "number"], event.agent_id ?? "", [event.detail, "words"]),
  );
}

const eventKey = (event) => `${event.at} ${event.name} ${event.agent_id}`;

function presentRun({ run, totals, straggler }) {
  setText(byId("run-title"), `Run ${run.run_id}`);
  const tiles = [
    ["State", run.state],
    ["Rounds", number(totals.rounds_closed) + (totals.repeated_rounds ? ` (${number(totals.repeated_rounds)} repeated)` : "")],
    ["Devices there", `${number(totals.devices_there)} of ${number(totals.devices)}`],
    ["Seconds of all rounds", number(totals.duration_s, 1)],
    ["Coordinator sent", bytes(totals.packet_bytes_up)],
    ["Coordinator received", bytes(totals.packet_bytes_down)],
    ["Refused messages", number(totals.refused)],
  ];
  list(byId("totals"), tiles, ([name]) => name, pair);
  list(byId("facts"), run.facts, ([name]) => name, pair);
  setText(byId("straggler"), `Last rounds: ${straggler}.`);
}

const pair = ([name, value]) => element("div", "", element("dt", "", name), element("dd", "", value));

function presentTimeline(timeline) {
  const choices = [["", "latest"], ...[...timeline.rounds].reverse().map((round) => [String(round), String(round)])];
  list(byId("timeline-round"), choices, ([value]) => value, ([value, text]) => {
    const option = element("option", "", text);
    option.value = value;
    return option;
  });
  if (byId("timeline-round").value !== wanted.round) byId("timeline-round").value = wanted.round;
  const state = timeline.open ? `under way, ${plural(timeline.total, "report")} so far` : "finished";
  setText(byId("timeline-note"), timeline.round ? `Round ${number(timeline.round)}, ${state}. Seconds are the devices' own.` : "No round has been opened yet.");
  const rows = timeline.items.length + (timeline.coordinator ? 1 : 0);
  show(byId("timeline-plot"), rows > 0);
  byId("timeline-plot").style.height = `${110 + 26 * rows}px`;
  if (rows) drawTimeline({ items: timeline.items, coordinator: timeline.coordinator });
  list(byId("timeline-rows"), timeline.items, (item) => item.agent_id, (item) =>
    row(item.agent_id, ...["download_s", "train_s", "upload_s", "latency_s", "idle_s"].map((key) => [seconds(item[key]), "number"]), [bytes(item.packet_bytes_up), "number"], [bytes(item.packet_bytes_down), "number"], item.accepted ? "yes" : "no"),
  );
  turnTimeline(timeline);
}

function presentDevices(devices) {
  list(byId("devices"), devices.items, (device) => device.agent_id, (device) => {
    const refused = Object.values(device.refused).reduce((sum, count) => sum + count, 0);
    const measures = ["download_s", "train_s", "upload_s", "idle_s", "latency_s"].map((key) => [seconds(device[key]), "number"]);
    return row(
      device.agent_id,
      stateMark(device),
      moment(device.last_seen_at, true),
      [`${number(device.rounds_accepted)}/${number(device.rounds_selected)}`, "number"],
      ...measures,
      [bytes(device.packet_bytes_up), "number"],
      [bytes(device.packet_bytes_down), "number"],
      [bytes(device.peak_rss_bytes), "number"],
      [device.cpu_temperature_c === null ? number(null) : number(device.cpu_temperature_c) + (device.throttled ? " !" : ""), "number"],
      [number(refused), "number"],
    );
  });
  turnDevices(devices);
}

function stateMark(device) {
  if (device.quarantined) return element("span", "mark wait", device.online ? "quarantined" : "quarantined, offline");
  if (!device.online) return element("span", "mark off", "offline");
  if (device.failing) return element("span", "mark wait", "failing");
  return device.silent ? element("span", "mark wait", "silent") : element("span", "mark", "online");
}

function presentRounds(rounds) {
  list(byId("rounds"), rounds.items, (round) => round.number, (round) =>
    row(
      number(round.number) + (round.attempt > 1 ? ` (attempt ${round.attempt})` : ""),
      moment(round.started_at, true),
      [percent(round.accuracy, 2), "number"],
      [number(round.loss, 4), "number"],
      [number(round.train_loss, 4), "number"],
      [`${number(round.num_accepted)}/${number(round.num_selected)}`, "number"],
      [number(round.num_refused), "number"],
      [seconds(round.duration_s), "number"],
      ...PHASES.map(([key]) => [seconds(round[key]), "number"]),
      [bytes(round.packet_bytes_up), "number"],
      [bytes(round.packet_bytes_down), "number"],
    ),
  );
  turnRounds(rounds);
}

function presentRefusals(refusals) {
  show(byId("no-refusals"), refusals.length === 0);
  show(byId("refusals-region"), refusals.length > 0);
  list(byId("refusals"), refusals, (refusal) => refusal.reason, (refusal) => {
    const senders = refusal.senders.map(({ agent_id: name, count }) => `${name} (${number(count)})`);
    const more = refusal.all_senders - refusal.senders.length;
    const text = senders.join(", ") + (more > 0 ? ` and ${number(more)} more` : "");
    return row(refusal.reason, [number(refusal.count), "number"], [text, "words"]);
  });
}

async function loadRuns() {
  const answer = await fetch("/api/runs", { cache: "no-store" });
  if (!answer.ok) return;
  const { runs } = await answer.json();
  const choices = [["", "the newest"], ...runs.map((run) => [run, run])];
  list(byId("run"), choices, ([value]) => value, ([value, text]) => {
    const option = element("option", "", text);
    option.value = value;
    return option;
  });
  byId("run").value = wanted.run;
}

const refresh = follow(() => `/api/engineer?${new URLSearchParams(wanted)}`, present);

function change(changes) {
  Object.assign(wanted, changes);
  refresh();
}

const turnTimeline = pager("timeline-pager", (page) => change({ timeline_page: page }));
const turnDevices = pager("devices-pager", (page) => change({ page }));
const turnRounds = pager("rounds-pager", (page) => change({ rounds_page: page }));
byId("query").addEventListener("input", (event) => change({ query: event.target.value.trim(), page: 1 }));
byId("sort").addEventListener("change", (event) => change({ sort: event.target.value, page: 1 }));
byId("timeline-round").addEventListener("change", (event) => change({ round: event.target.value, timeline_page: 1 }));
byId("run").addEventListener("change", (event) => change({ run: event.target.value, round: "", page: 1, timeline_page: 1, rounds_page: 1 }));
