// Charts by Chart.js, in the page's colours: made once, then given new numbers without animation.

const DARK = matchMedia("(prefers-color-scheme: dark)");
const made = [];

Chart.defaults.animation = false;
Chart.defaults.responsive = true;
Chart.defaults.maintainAspectRatio = false;
Chart.defaults.font.family = "Inter, system-ui, sans-serif";
Chart.defaults.font.size = 12;
Chart.defaults.plugins.legend.align = "start";
Chart.defaults.plugins.legend.labels.boxWidth = 10;
Chart.defaults.plugins.legend.labels.boxHeight = 10;

/** The page's colour of this name, as it is now. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/**
 * A chart on this canvas. `configure(data)` gives Chart.js its whole configuration; it is asked again when the colours
 * change. Returns a function that takes new data.
 */
export function chart(canvas, configure) {
  let instance = null;
  let data = null;
  let shown = "";
  function draw(fresh) {
    const text = JSON.stringify(fresh);
    if (instance && text === shown) return;
    [data, shown] = [fresh, text];
    const configuration = configure(fresh);
    if (!instance) {
      instance = new Chart(canvas, configuration);
      return;
    }
    instance.data = configuration.data;
    instance.options = configuration.options;
    instance.update("none");
  }
  made.push(() => {
    if (data) {
      shown = "";
      draw(data);
    }
  });
  return draw;
}

DARK.addEventListener("change", () => made.forEach((redraw) => redraw()));

/** An axis. */
export function axis(title, options = {}) {
  const { ticks, grid, ...rest } = options;
  return {
    title: { display: Boolean(title), text: title, color: colour("muted") },
    ticks: { color: colour("muted"), maxRotation: 0, autoSkipPadding: 16, ...ticks },
    grid: { color: colour("line"), ...grid },
    border: { color: colour("line") },
    ...rest,
  };
}

export function legend({ display = true, lines = false } = {}) {
  return { display, labels: { color: colour("text"), boxWidth: 12, boxHeight: 10, usePointStyle: true, ...(lines ? { generateLabels: lineLegend, pointStyleWidth: 22 } : { pointStyle: "rectRounded" }) } };
}

/** How a line looks in the legend, whatever its points look like. */
const lineLegend = (chart) =>
  Chart.defaults.plugins.legend.labels.generateLabels(chart).map((label) => ({ ...label, pointStyle: "line" }));

/** A line of a chart. */
export function line(label, values, colourName, options = {}) {
  const paint = colour(colourName);
  return {
    label,
    data: values,
    borderColor: paint,
    backgroundColor: paint,
    borderWidth: 2.25,
    pointRadius: values.length > 40 ? 0 : 2.5,
    pointHitRadius: 12,
    pointStyle: "circle",
    tension: 0,
    spanGaps: true,
    ...options,
  };
}

export const nearest = { mode: "index", intersect: false };
