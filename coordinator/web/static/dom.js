// Puts text and lists on the page, touching only what has changed: no flicker, and the focus stays where it is.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function show(element, visible) {
  if (element.hidden === visible) element.hidden = !visible;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

/** An element with a class and children; text is text, never markup. */
export function element(name, className = "", ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** Make the children of `parent` be those of `items`: one whose key and content are as before stays as it is. */
export function list(parent, items, key, make) {
  const kept = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const wanted = items.map((item) => {
    const [name, content] = [String(key(item)), JSON.stringify(item)];
    const old = kept.get(name);
    if (old && old.dataset.content === content) return old;
    const made = make(item);
    made.dataset.key = name;
    made.dataset.content = content;
    return made;
  });
  const keep = new Set(wanted);
  for (const child of [...parent.children]) if (!keep.has(child)) child.remove();
  wanted.forEach((child, index) => {
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
  });
}

/** A row of a table. Cells are texts, elements, or [text, class]. */
export function row(head, ...cells) {
  const made = element("tr");
  const first = element("th", "", head);
  first.scope = "row";
  made.append(first);
  for (const cell of cells) made.append(Array.isArray(cell) ? element("td", cell[1], cell[0]) : element("td", "", cell));
  return made;
}

/** Buttons that turn the pages of a list. `turn` gets the wanted page. */
export function pager(id, turn) {
  const box = byId(id);
  const [previous, next] = box.querySelectorAll("button");
  let page = 1;
  for (const button of [previous, next]) {
    button.addEventListener("click", () => turn(page + Number(button.dataset.step)));
  }
  return (document) => {
    page = document.page;
    show(box, document.pages > 1);
    setText(box.querySelector("span"), `Page ${document.page} of ${document.pages}`);
    previous.disabled = page <= 1;
    next.disabled = page >= document.pages;
  };
}
