// The first view: is everything all right, which rooms take part, how good the model is.

import { axis, chart, colour, legend, line, nearest } from "./charts.js";
import { byId, element, icon, list, pager, row, setText, show } from "./dom.js";
import { moment, number, percent, plural, sentence } from "./format.js";
import { headline } from "./headline.js";
import { follow } from "./live.js";

const STATES = {
  there: ["check", (room) => (room.rounds_accepted ? "takes part" : "is there")],
  unknown: ["info", () => "not known just now"],
  missing: ["away", (room) => (room.since ?? room.last_seen_at ? `no answer since ${moment(room.since ?? room.last_seen_at)}` : "not heard of yet")],
  silent: ["alert", (room) => `no result since ${moment(room.since)}`],
  quarantined: ["alert", () => "is shut out"],
  failing: ["alert", () => "cannot do its part"],
  unusable: ["alert", () => "results cannot be used"],
  other_version: ["alert", () => "needs an update"],
  struggling: ["alert", () => "too warm or weak power"],
  returning: ["clock", () => "is coming back"],
  "took-part": ["check", (room) => `in ${plural(room.rounds_accepted, "round")}`],
  idle: ["info", () => "took no part"],
};

const CALM = new Set(["there", "unknown", "returning", "took-part", "idle"]);

const asked = new URLSearchParams(location.search);
const wanted = { run: asked.get("run") ?? "", page: 1, query: "" };

const drawCurve = chart(byId("chart"), ({ curve, target }) => ({
  type: "line",
  data: {
    labels: curve.rounds,
    datasets: [
      line("Right answers", curve.accuracy.map((share) => share * 100), "accent", { fill: false }),
      ...(target === null ? [] : [line("Goal", curve.rounds.map(() => target * 100), "muted", { borderDash: [5, 5], borderWidth: 1.5, pointRadius: 0 })]),
    ],
  },
  options: {
    interaction: nearest,
    scales: {
      x: axis("Round", { grid: { display: false } }),
      y: axis("", { min: 0, max: 100, ticks: { stepSize: 25, callback: (value) => `${value} %` } }),
    },
    plugins: {
      legend: legend({ display: target !== null, lines: true }),
      tooltip: { callbacks: { title: ([item]) => `Round ${item.label}`, label: (item) => `${item.dataset.label}: ${item.parsed.y.toFixed(1)} %` } },
    },
  },
}));

function present(news) {
  headline(news.headline, news.progress);
  for (const id of ["model", "rooms"]) show(byId(id), news.run !== null);
  show(byId("todo"), Boolean(news.notices?.length));
  if (news.run === null) return;
  presentNotices(news);
  presentModel(news.model);
  presentRooms(news.rooms, news.run.state === "running");
}

function presentNotices({ notices, more_notices: more }) {
  list(byId("notices"), notices, (notice) => notice.text, (notice) => {
    const made = element("li", `notice level-${notice.level}`, icon(notice.level === "info" ? "info" : "alert"));
    made.append(element("strong", "", sentence(notice.text, notice.at)), element("p", "", notice.todo));
    return made;
  });
  show(byId("more"), more > 0);
  setText(byId("more"), `And ${number(more)} more; the Engineer view lists every device.`);
}

function presentModel(model) {
  show(byId("score"), model.accuracy !== null);
  setText(byId("accuracy"), percent(model.accuracy));
  setText(byId("sentences"), model.sentences.join(" "));
  const { curve } = model;
  show(byId("curve"), curve.rounds.length > 0);
  if (!curve.rounds.length) return;
  byId("chart").setAttribute("aria-label", `Share of right answers after each round. ${model.sentences.join(" ")}`);
  drawCurve({ curve, target: model.target_accuracy });
  const rows = curve.rounds.map((round, index) => [round, curve.accuracy[index]]).reverse();
  list(byId("numbers"), rows, ([round]) => round, ([round, share]) => row(number(round), [percent(share), "number"]));
}

function presentRooms(rooms, running) {
  setText(byId("rooms-summary"), summary(rooms, running));
  show(byId("search"), rooms.all > 24);
  list(byId("room-list"), rooms.items, (room) => room.agent_id, (room) => {
    const [name, words] = STATES[room.state];
    return element("li", `room ${CALM.has(room.state) ? room.state : "trouble"}`, icon(name), element("b", "", room.name), element("span", "", words(room)));
  });
  turnRooms(rooms);
}

function summary({ all, known, there, took_part: tookPart, total }, running) {
  if (!all) return "No room has answered yet.";
  if (wanted.query) return `${plural(total, "room")} with “${wanted.query}”.`;
  if (!running) return `${plural(tookPart, "room")} took part.`;
  if (!known) return "Who is there is not known while the message server does not answer.";
  if (!tookPart) return there === 1 ? "1 room is there." : `${number(there)} rooms are there.`;
  if (there === all) return all === 1 ? "The only room takes part." : `All ${number(all)} rooms take part.`;
  return `${number(there)} of ${number(all)} rooms take part.`;
}

const refresh = follow(() => `/api/overview?${new URLSearchParams(wanted)}`, present);

const turnRooms = pager("rooms-pager", (page) => {
  wanted.page = page;
  refresh();
});

byId("query").addEventListener("input", (event) => {
  wanted.query = event.target.value.trim();
  wanted.page = 1;
  refresh();
});
