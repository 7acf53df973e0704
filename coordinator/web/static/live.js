// Asks the server for news once a second while the page is looked at, and says when there is no answer.
//
// Asking beats a stream here: it mends itself after restarts and sleeping phones, and any number of tabs may be open.

import { byId, setText, show } from "./dom.js";
import { moment } from "./format.js";

const EVERY_MS = 1000;
const PATIENCE_MS = 20000;
const LOST_AFTER = 2; // failures in a row

/** Show what `address()` gives, again whenever it has changed. Returns a function that asks at once. */
export function follow(address, present) {
  let tag = { address: "", etag: "" };
  let failures = 0;
  let lastAnswer = Date.now();
  let timer = 0;
  let asking = 0;
  let over = false;

  async function ask() {
    clearTimeout(timer);
    const mine = ++asking;
    const wanted = address();
    try {
      const headers = wanted === tag.address && tag.etag ? { "If-None-Match": tag.etag } : {};
      const answer = await fetch(wanted, { headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
      if (mine !== asking) return; // a newer question is under way
      if (answer.status === 401) return location.assign("/");
      if (answer.status !== 304 && !answer.ok) throw new Error((await answer.json()).error);
      if (answer.status === 200) {
        const news = await answer.json();
        present(news);
        over = Boolean(news.run) && news.run.state !== "running";
        tag = { address: wanted, etag: answer.headers.get("ETag") };
      }
      failures = 0;
      lastAnswer = Date.now();
      contact(true, lastAnswer, over);
    } catch (error) {
      if (mine !== asking) return;
      console.warn("no news:", error);
      failures += 1;
      if (failures >= LOST_AFTER) contact(false, lastAnswer, over);
    }
    if (!document.hidden) timer = setTimeout(ask, EVERY_MS);
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : ask()));
  ask();
  return ask;
}

function contact(there, lastAnswer, over) {
  show(byId("lost"), !there);
  byId("lost").className = over ? "card wide" : "lost wide";
  const at = lastAnswer / 1000;
  if (there) {
    setText(byId("live"), `Live, as of ${moment(at, true)}`);
    return;
  }
  setText(
    byId("lost"),
    over
      ? `The training has ended, and this page is not served any more since ${moment(at)}. What you see is how it ended.`
      : `This page has had no news from the training computer since ${moment(at)}. What you see is from then. It keeps trying; nothing needs to be done here.`,
  );
  setText(byId("live"), `Last news at ${moment(at, true)}`);
}
