// The sentence at the top of both views.

import { byId, setText, show } from "./dom.js";
import { sentence } from "./format.js";

const BADGES = { ok: "check", info: "clock", warn: "alert", bad: "stop" };

export function headline({ level, text, detail, at }, progress) {
  byId("status").className = `card status wide level-${level}`;
  byId("badge").setAttribute("href", `#${BADGES[level]}`);
  setText(byId("headline"), sentence(text, at));
  setText(byId("detail"), sentence(detail, at));
  show(byId("detail"), Boolean(detail));
  document.title = `${sentence(text, at).replace(/\.$/, "")} – Training`;
  const bar = byId("progress");
  show(bar, Boolean(progress?.rounds));
  if (progress?.rounds) {
    bar.max = progress.rounds;
    bar.value = progress.rounds_closed;
  }
}
