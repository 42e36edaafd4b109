/** The canvas as text whose cells settle in place: each position keeps its room while its token still changes. */

import { DRAFT, NEW, NOISE, PINNED, SENT } from "./timeline.js";
import { el, printable, visible } from "./util.js";

const LONGEST_WORD = 24; // columns; longer runs of tokens may be broken between lines
const TOP_LEVEL = 35;

export const STATE_NAMES = {
  [NOISE]: "noise: a random token, drawn anew",
  [NEW]: "newly accepted",
  [DRAFT]: "accepted in an earlier step too",
  [PINNED]: "pinned",
  [SENT]: "sent as early text, final",
  c: "committed",
};

/** Columns that a text takes in a monospaced font; wide scripts and emoji take two each. */
export function columns(text) {
  const wide = text.match(/[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\p{Extended_Pictographic}]/gu);
  return Array.from(text).length + (wide?.length ?? 0);
}

/** Draws moments of a timeline into `root`; `onInspect(where | null)` hears which cell is looked at. */
export class CanvasView {
  #settled = el("span", { class: "settled" });
  #active = el("span", { class: "active" });
  #layout = "";
  #cells = [];
  #cursor = null;

  constructor({ onInspect = null, label = "Canvas" } = {}) {
    this.onInspect = onInspect;
    this.root = el("div", { class: "cells", "aria-label": label }, this.#settled, this.#active);
    if (!onInspect) {
      this.root.setAttribute("role", "img");
      return;
    }
    for (const [name, value] of Object.entries({ role: "application", tabindex: 0, "data-keys": "" })) {
      this.root.setAttribute(name, value);
    }
    this.root.addEventListener("pointerover", (event) => this.#point(event.target.closest(".cell")));
    this.root.addEventListener("click", (event) => this.#point(event.target.closest(".cell")));
    this.root.addEventListener("keydown", (event) => this.#move(event));
  }

  clear() {
    this.#settled.replaceChildren();
    this.#active.replaceChildren();
    [this.#layout, this.#cells, this.#cursor] = ["", [], null];
  }

  draw(timeline, moment) {
    this.#drawSettled(timeline, moment);
    this.#drawActive(timeline, moment.frame);
  }

  #drawSettled(timeline, moment) {
    const committed = timeline.committedAt(moment);
    if (this.#settled.childElementCount > committed.length) this.#settled.replaceChildren();
    for (const { token, commit, position } of committed.slice(this.#settled.childElementCount)) {
      const cell = el("span", { class: "cell", "data-state": "c", textContent: printable(token) });
      cell.where = { canvas: commit.canvas, commit, position };
      if (position === 0 && commit.canvas > 0 && !timeline.isAutoregressive) cell.classList.add("opens");
      this.#settled.append(cell);
    }
  }

  #drawActive(timeline, frame) {
    const shape = frame ? timeline.shapeOf(frame.canvas) : [];
    const layout = JSON.stringify([frame?.canvas, shape]);
    if (layout !== this.#layout) this.#lay(shape, frame);
    this.#layout = layout;
    this.#cells.forEach((cell, position) => fill(cell, shape[position], frame, position));
  }

  /** New cells for a canvas, words kept together, line breaks where the reply has them. */
  #lay(shape, frame) {
    this.#cells = shape.map((token, position) => {
      const cell = el("span", { class: token === null ? "cell beyond" : "cell" });
      cell.where = { canvas: frame.canvas, position };
      cell.room = token === null ? 1 : Math.max(1, columns(oneLine(bare(token))));
      cell.style.setProperty("--w", cell.room);
      return cell;
    });
    if (frame?.canvas > 0) this.#cells[0]?.classList.add("opens");
    this.#active.replaceChildren(...wordsOf(shape, this.#cells));
    this.#keepCursor(frame);
  }

  /** The cell looked at is another element now, unless its canvas is gone from view. */
  #keepCursor(frame) {
    const where = this.#cursor?.where;
    this.#cursor = (where && where.canvas === frame?.canvas && this.#cells[where.position]) || null;
    this.#cursor?.classList.add("cursor");
  }

  #point(cell) {
    if (!cell || cell === this.#cursor) return;
    this.#cursor?.classList.remove("cursor");
    this.#cursor = cell;
    cell.classList.add("cursor");
    this.onInspect(cell.where);
  }

  /** Show where a position is, as when it was picked on the heat map. */
  reveal(position) {
    const cell = this.#cells[position];
    if (cell) this.#point(cell);
  }

  #move(event) {
    const cells = [...this.root.querySelectorAll(".cell")];
    const at = cells.indexOf(this.#cursor);
    const target = { ArrowRight: cells[at + 1], ArrowLeft: cells[Math.max(0, at - 1)], Home: cells[0], End: cells.at(-1) };
    const key = event.key;
    const next = key in target ? target[key] : { ArrowDown: 1, ArrowUp: -1 }[key] && lineAway(cells, at, key === "ArrowDown" ? 1 : -1);
    if (next === undefined) return;
    event.preventDefault();
    this.#point(next);
    next?.scrollIntoView({ block: "nearest" });
  }
}

/** The cell nearest in the next line below (`direction` 1) or above (-1). */
function lineAway(cells, at, direction) {
  const here = (cells[at] ?? cells[0])?.getBoundingClientRect();
  if (!here) return null;
  const boxes = cells.map((cell) => cell.getBoundingClientRect());
  const beyond = boxes.filter((box) => direction * (box.top - here.top) > here.height / 2);
  const line = direction > 0 ? Math.min(...beyond.map((box) => box.top)) : Math.max(...beyond.map((box) => box.top));
  const distance = (box) => (Math.abs(box.top - line) < 2 ? Math.abs(box.left - here.left) : Infinity);
  const best = boxes.reduce((best, box, i) => (distance(box) < distance(boxes[best]) ? i : best), 0);
  return beyond.length ? cells[best] : cells[at] ?? null;
}

/** A token without the space before its word, which stands between the cells: so no line begins with one. */
function bare(token) {
  return /^ [^\s]/.test(token) ? token.slice(1) : token;
}

function oneLine(token) {
  return printable(token.replaceAll("\n", "")) || (token.includes("\n") ? "↵" : "");
}

function fill(cell, shape, frame, position) {
  const token = frame.tokens[position] ?? "";
  const state = frame.state[position] ?? NOISE;
  if (cell.dataset.state !== state) cell.dataset.state = state;
  cell.classList.toggle("lost", frame.lost[position] ?? false);
  const level = frame.entropy[position] ?? 0;
  if (cell.level !== level) cell.style.setProperty("--e", ((cell.level = level) / TOP_LEVEL).toFixed(3));
  const text = shape === null ? (state === NOISE ? visible(token).slice(0, 1) : "·") : inRoom(token, shape, cell.room);
  if (cell.textContent !== text) cell.textContent = text;
}

/** A token in the room that the shape's token has: exact where they agree, else as much as is seen at once. */
function inRoom(token, shape, room) {
  if (token === shape) return oneLine(bare(token));
  const text = visible(token);
  const seen = columns(text) > room ? visible(token.trimStart() || token) : text;
  return Array.from(seen).slice(0, room).join("");
}

/** Cells in word groups, with `<br>` after the tokens that break lines. */
function wordsOf(shape, cells) {
  const nodes = [];
  let word = null, width = 0, broke = true;
  shape.forEach((token, i) => {
    const starts = broke || token === null || /^\s/.test(token) || width + cells[i].room > LONGEST_WORD;
    if (starts && token !== null && bare(token) !== token) nodes.push(" ");
    if (starts) nodes.push((word = el("span", { class: "word" }))), (width = 0);
    word.append(cells[i]);
    width += cells[i].room;
    broke = token !== null && token.includes("\n");
    if (broke) nodes.push(...Array.from(token.matchAll("\n"), () => el("br")));
  });
  return nodes;
}
