/** Entropy of every position (down) at every moment (across), with dividers where a canvas ends. */

import { clamp, el } from "./util.js";

const LEVELS = 36;
const TALLEST = 224; // CSS pixels

/** Colours of the ramp as the style sheet gives them, so that heat map and cells agree in light and dark. */
function ramp(node) {
  const probe = el("span", { class: "ramp-probe", hidden: true });
  node.append(probe);
  const colours = Array.from({ length: LEVELS }, (_, level) => {
    probe.style.setProperty("--e", (level / (LEVELS - 1)).toFixed(3));
    return getComputedStyle(probe).backgroundColor;
  });
  const divider = getComputedStyle(probe).color;
  probe.remove();
  return { colours, divider };
}

/** `onPick(moment index, position)` hears clicks. What it shows is also in the scrubber and the inspector. */
export class HeatMap {
  #timeline = null;
  #index = 0;
  #queued = false;

  constructor({ onPick }) {
    this.canvas = el("canvas", { class: "heat", role: "img", "aria-label": "Entropy by position and step" });
    this.cursor = el("div", { class: "heat-cursor" });
    this.frame = el("div", { class: "heat-frame" }, this.canvas, this.cursor);
    this.ends = el("span", {}, "");
    this.root = el("figure", { class: "heat-figure", hidden: true }, el("figcaption", {}, "How unsure each place was, step by step (click to go there)"),
      el("div", { class: "heat-body" }, el("span", { class: "heat-side", "aria-hidden": "true" }, "place in the text →"), this.frame),
      el("div", { class: "heat-axis", "aria-hidden": "true" }, el("span", {}, "noise"), el("span", {}, "steps →"), this.ends));
    this.canvas.addEventListener("click", (event) => onPick(...this.#at(event)));
    new ResizeObserver(() => this.#queue()).observe(this.frame);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#queue());
    addEventListener("themechange", () => this.#queue());
  }

  show(timeline) {
    this.#timeline = timeline;
    this.ends.textContent = timeline.done ? "final" : "";
    this.root.hidden = !timeline.moments.some((moment) => moment.frame);
    this.#queue();
  }

  /** Mark the moment that is being viewed. */
  mark(index) {
    this.#index = index;
    const columns = Math.max(1, this.#timeline?.moments.length ?? 1);
    this.cursor.style.left = `${(100 * index) / columns}%`;
    this.cursor.style.width = `${100 / columns}%`;
  }

  get #rows() {
    return Math.max(1, ...(this.#timeline?.moments ?? []).map((moment) => moment.frame?.width ?? 0));
  }

  #at(event) {
    const box = this.canvas.getBoundingClientRect();
    const columns = this.#timeline?.moments.length ?? 1;
    const index = clamp(Math.floor(((event.clientX - box.left) / box.width) * columns), 0, columns - 1);
    return [index, clamp(Math.floor(((event.clientY - box.top) / box.height) * this.#rows), 0, this.#rows - 1)];
  }

  #queue() {
    if (this.#queued) return;
    this.#queued = true;
    requestAnimationFrame(() => {
      this.#queued = false;
      if (this.root.isConnected && this.#timeline?.moments.length) this.#draw();
    });
  }

  #draw() {
    const { moments } = this.#timeline;
    const rows = this.#rows, scale = devicePixelRatio || 1;
    const height = Math.min(TALLEST, Math.max(96, rows * 2));
    this.canvas.width = Math.max(1, Math.round(this.frame.clientWidth * scale));
    this.canvas.height = Math.round(height * scale);
    this.canvas.style.height = `${height}px`;
    this.canvas.setAttribute("aria-label", summary(moments));
    const paint = this.canvas.getContext("2d");
    const { colours, divider } = ramp(this.frame);
    const cell = { width: this.canvas.width / moments.length, height: this.canvas.height / rows };
    moments.forEach((moment, column) => {
      if (moment.frame) drawColumn(paint, moment.frame, column, cell, colours);
      else drawDivider(paint, column, cell, this.canvas.height, divider);
    });
    this.mark(this.#index);
  }
}

/** One step; from one edge in whole device pixels to the next, so that no seams show. */
function drawColumn(paint, frame, column, cell, colours) {
  const left = Math.floor(column * cell.width), right = Math.floor((column + 1) * cell.width);
  frame.entropy.forEach((level, row) => {
    const top = Math.floor(row * cell.height), bottom = Math.floor((row + 1) * cell.height);
    paint.fillStyle = colours[level];
    paint.fillRect(left, top, Math.max(1, right - left), Math.max(1, bottom - top));
  });
}

function drawDivider(paint, column, cell, height, colour) {
  paint.fillStyle = colour;
  paint.fillRect(Math.round((column + 0.5) * cell.width), 0, Math.max(1, Math.min(2, cell.width)), height);
}

function summary(moments) {
  const mean = ({ entropy }) => entropy.reduce((sum, level) => sum + level, 0) / Math.max(1, entropy.length) / (LEVELS - 1);
  const frames = moments.flatMap((moment) => moment.frame ?? []);
  if (!frames.length) return "No entropies: decoded token by token";
  const [first, last] = [mean(frames[0]), mean(frames.at(-1))].map((share) => `${Math.round(share * 100)} %`);
  return `Entropy by position and step: mean uncertainty ${first} of the scale at the first step, ${last} at the last`;
}
