/** Small helpers that every part of the page uses: building elements, numbers as text, downloads. */

/**
 * An element with attributes and children. `on*` functions become listeners, a few names are set as properties
 * (their attribute would only be the initial value), the rest are attributes; text is always text, never markup.
 */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) setAttribute(node, name, value);
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "selected", "textContent"]);

function setAttribute(node, name, value) {
  if (value === undefined || value === null || value === false) return;
  if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
  else if (PROPERTIES.has(name)) node[name] = value;
  else node.setAttribute(name, value === true ? "" : String(value));
}

const SVG = "http://www.w3.org/2000/svg";

/** An SVG element; `children` may be elements or text. */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  node.append(...children.flat());
  return node;
}

const ICONS = {
  play: "M5 3.5v9l8-4.5z",
  pause: "M4 3h3v10H4zM9 3h3v10H9z",
  back: "M11 3.5v9L5 8zM3.5 3.5H5v9H3.5z",
  forward: "M5 3.5v9L11 8zM11 3.5h1.5v9H11z",
  theme: "M8 1.5a6.5 6.5 0 1 0 0 13zM8 3v10a5 5 0 0 0 0-10z",
};

/** A 16 × 16 drawing that takes the colour of the text; hidden from screen readers, its button has a label. */
export function icon(name) {
  const shape = svg("path", { d: ICONS[name], fill: "currentColor" });
  return svg("svg", { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true", class: "icon" }, shape);
}

export function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}

export function seconds(value) {
  if (!Number.isFinite(value)) return "–";
  return value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(value < 10 ? 2 : 1)} s`;
}

export function decimal(value, digits = 1) {
  return Number.isFinite(value) ? value.toFixed(digits) : "–";
}

/** "1 step", "2 steps". */
export function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

/** Put a text on the clipboard; over plain http browsers give pages no access to it, and an old way is left. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = el("textarea", { class: "visually-hidden", value: text, "aria-hidden": "true" });
    const focused = document.activeElement;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (focused instanceof HTMLElement) focused.focus();
    if (!done) throw new Error("The browser does not let this page copy: select the text instead.");
  }
}

export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Offer `content` to the user as a file. */
export function download(name, content, type) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** What a token looks like where it must be seen on one line: spaces and breaks get a sign. */
export function visible(token) {
  const shown = printable(token).replaceAll("\n", "↵").replaceAll("\t", "⇥");
  return shown.trim() === "" ? shown.replaceAll(" ", "␣") || "∅" : shown;
}

/** Control characters as pictures, so that no cell is empty for a reader who wonders what stands there. */
export function printable(token) {
  return token.replace(/[\u0000-\u0008\u000b-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)));
}

export function isTyping(target) {
  return target instanceof Element && target.matches("input, textarea, select, [contenteditable], [data-keys]");
}

/** A file as a data URL. */
export function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
