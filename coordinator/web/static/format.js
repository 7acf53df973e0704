// Numbers, moments and sizes as people read them. Moments are in the browser's own time zone.

const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const CLOCK_S = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

export const NOTHING = "–";

/** 14:05, or 24 Nov, 14:05 when that was another day. */
export function moment(utcS, withSeconds = false) {
  if (utcS === null || utcS === undefined) return NOTHING;
  const date = new Date(utcS * 1000);
  const clock = (withSeconds ? CLOCK_S : CLOCK).format(date);
  return date.toDateString() === new Date().toDateString() ? clock : `${DAY.format(date)}, ${clock}`;
}

/** A sentence from the server, with its moment put in. */
export function sentence(text, at) {
  return text.replaceAll("{time}", moment(at));
}

export function percent(share, digits = 1) {
  return share === null || share === undefined ? NOTHING : `${(share * 100).toFixed(digits)} %`;
}

export function number(value, digits = 0) {
  if (value === null || value === undefined) return NOTHING;
  return value.toLocaleString("en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** Seconds with as many digits as matter. */
export function seconds(value) {
  if (value === null || value === undefined) return NOTHING;
  if (value >= 600) return `${number(value / 60)} min`;
  return `${number(value, value < 10 ? 2 : value < 100 ? 1 : 0)} s`;
}

/** Decimal units, as on a network. */
export function bytes(value) {
  if (value === null || value === undefined) return NOTHING;
  for (const [size, unit] of [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]) {
    if (value >= size) return `${number(value / size, value >= 100 * size ? 0 : value >= 10 * size ? 1 : 2)} ${unit}`;
  }
  return `${number(value)} B`;
}

export function plural(count, one, many = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : many}`;
}
