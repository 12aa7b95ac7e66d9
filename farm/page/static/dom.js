// Makes elements. Texts become text nodes, whatever stands in them: nothing here parses HTML.

/** An element: el("td.num", {title: "…"}, "text", child, …). */
export function el(what, attributes = {}, ...children) {
  const [tag, ...classes] = what.split(".");
  const made = document.createElement(tag || "div");
  if (classes.length) made.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in PROPERTIES) made[name] = value;
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  add(made, children);
  return made;
}

const PROPERTIES = { value: 1, checked: 1, disabled: 1, hidden: 1, tabIndex: 1 };

function add(parent, children) {
  for (const child of children.flat(3)) {
    if (child === null || child === undefined || child === false || child === "") continue;
    parent.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Replaces what is in an element. */
export function fill(parent, ...children) {
  parent.replaceChildren();
  add(parent, children);
  return parent;
}

/** Puts rows in a table's body. Those that are there stay what they are: focus, mouse and selection do, too. */
export function put(body, rows) {
  const focused = body.contains(document.activeElement) ? document.activeElement : null;
  for (const row of [...body.children]) if (!rows.includes(row)) row.remove();
  rows.forEach((row, i) => { if (body.children[i] !== row) body.insertBefore(row, body.children[i] || null); });
  if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
}

/** Goes through the rows of a table by keys: j and k or arrows, Enter opens. The chosen one stays so. */
export class Walk {
  constructor(body, open) {
    Object.assign(this, { body, open, chosen: null });
  }

  keys(event) {
    const by = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
    const rows = [...this.body.children];
    if (by && rows.length) {
      const at = Math.min(Math.max(rows.indexOf(this.chosen) + by, 0), rows.length - 1);
      this.chosen?.classList.remove("selected");
      this.chosen = rows[at];
      this.chosen.classList.add("selected");
      this.chosen.focus({ preventScroll: true });
      this.chosen.scrollIntoView({ block: "nearest" });
      return true;
    }
    if (event.key !== "Enter" || !this.chosen?.isConnected || event.target !== this.chosen) return false;
    this.open(this.chosen);
    return true;
  }
}

/** A heading with what stands below it. */
export const section = (title, ...children) =>
  el("section.card", {}, title && el("h2", {}, title), ...children);
