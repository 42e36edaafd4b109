/** The theatre: canvas, counters, player, heat map and inspector around one timeline. Watch, Replay and exports use it. */

import { CanvasView } from "./canvas.js";
import { HeatMap } from "./heatmap.js";
import { Inspector } from "./inspector.js";
import { Player } from "./player.js";
import { NOISE } from "./timeline.js";
import { count, decimal, el, isTyping, seconds } from "./util.js";

const LEGEND = [
  ["n", "noise", "A random token: the model does not know this place yet"],
  ["n lost", "taken back", "The step before had a word here; now it is noise again"],
  ["a", "new", "The model became sure of this in the step shown"],
  ["d", "kept", "Kept from the step before; it may still change"],
  ["c", "final", "Part of the answer"],
];

export class Stage {
  timeline = null;

  /**
   * @param {{empty?: string, actions?: any[], onMoment?: (moment: any, index: number) => void, compact?: boolean}} [options]
   * `empty`: what the canvas says before there is anything to show. `actions`: buttons beside the legend.
   * `compact` leaves out heat map and inspector, for views that show something else beside the canvas.
   */
  constructor({ empty = "", actions = [], onMoment = () => {}, compact = false } = {}) {
    this.onMoment = onMoment;
    this.canvas = new CanvasView({ onInspect: (where) => this.inspector.look(where, this.timeline, this.moment) });
    this.inspector = new Inspector();
    this.player = new Player({ onMoment: (moment, index) => this.#show(moment, index) });
    this.heat = new HeatMap({ onPick: (index, position) => this.#pick(index, position) });
    this.counters = new Counters();
    this.status = el("p", { class: "status", role: "status", "aria-live": "polite" });
    this.empty = el("p", { class: "empty" }, empty);
    this.text = el("p", { class: "visually-hidden", id: `alternative-${Math.random().toString(36).slice(2)}` });
    this.canvas.root.setAttribute("aria-describedby", this.text.id);
    this.root = el("div", { class: compact ? "stage compact" : "stage" },
      el("div", { class: "stage-main" }, this.counters.root, el("div", { class: "paper" }, this.empty, this.canvas.root, this.text),
        el("div", { class: "under" }, legend(), el("div", { class: "actions" }, actions)),
        this.player.root, !compact && this.heat.root, this.status),
      ...(compact ? [] : [this.inspector.root]));
    addEventListener("keydown", (event) => this.#key(event));
  }

  /** Show a timeline; `live` while it is being generated, followed by `grown` as it is. */
  load(timeline, { live = false, playing = true } = {}) {
    this.timeline = timeline;
    this.canvas.clear();
    this.text.textContent = "";
    this.counters.clear();
    this.inspector.look(null, null, null);
    this.empty.hidden = true;
    this.heat.show(timeline);
    this.player.load(timeline, { live, playing });
    if (!live) this.#tell();
  }

  grown(live = true) {
    this.heat.show(this.timeline);
    this.player.grown(live);
    if (!live) this.#tell();
    this.counters.draw(this.timeline, this.moment);
  }

  get moment() {
    return this.player.timeline?.moments[this.player.index] ?? null;
  }

  say(message, isError = false) {
    this.status.textContent = message;
    this.status.classList.toggle("error", isError);
  }

  #tell() {
    const { done } = this.timeline;
    if (!done) return;
    const { steps } = this.timeline;
    const how = this.timeline.isAutoregressive ? "token by token" : `in ${count(steps, "step")}`;
    const end = done.finish_reason === "length" ? " The reply was cut at its length limit." : "";
    this.say(`Generated ${how}, ${seconds(done.seconds)}.${end} ${done.note ?? ""}`.trim());
  }

  #show(moment, index) {
    this.canvas.draw(this.timeline, moment);
    this.counters.draw(this.timeline, moment);
    this.heat.mark(index);
    this.inspector.draw(this.timeline, moment);
    if (!this.player.playing || index === this.player.last) this.text.textContent = describe(this.timeline, moment);
    this.onMoment(moment, index);
  }

  #pick(index, position) {
    this.player.pause();
    this.player.go(index);
    this.canvas.reveal(position);
  }

  /** Keys work anywhere in the view that is open, except where they mean something else. */
  #key(event) {
    const { target } = event;
    if (!this.root.isConnected || !this.root.checkVisibility() || event.defaultPrevented) return;
    const onCanvas = target === this.canvas.root;
    if (onCanvas ? event.key !== " " : isTyping(target)) return;
    if (event.key === " " && target.closest?.("button, a, summary")) return;
    if (this.player.key(event)) event.preventDefault();
  }
}

function describe(timeline, moment) {
  const text = timeline.draftAt(moment);
  if (moment.frame?.step === 0) return "Noise: random tokens, before the first step.";
  return moment.frame ? `Canvas ${moment.frame.canvas + 1}, step ${moment.frame.step}. The draft reads: ${text}` : `Committed text: ${text}`;
}

/** What the looks of cells mean. */
export function legend() {
  const swatch = (state, ...extra) => el("span", { class: ["cell swatch", ...extra].join(" "), "data-state": state, "aria-hidden": "true" }, "ab");
  const swatches = LEGEND.map(([kind, name, title]) => el("li", { title }, swatch(...kind.split(" ")), name));
  const scale = el("p", { class: "legend scale", title: "How far the model's guesses for a place are spread (their entropy)" }, "Colour: sure", el("span", { class: "ramp", "aria-hidden": "true" }), "unsure");
  return el("div", { class: "legends" }, el("ul", { class: "legend", "aria-label": "What a cell is" }, swatches), scale);
}

/** Where the answer stands, and what it took so far. */
const COUNTED = [
  ["step", "Each step refines the whole block of text once"],
  ["settled", "Places that are not noise, of all on the canvas"],
  ["forward passes", "How often the network was run"],
  ["tokens per forward", "Tokens of the answer for each run of the network; writing one after the other has 1"],
  ["time", "On the server's clock"],
];

export class Counters {
  constructor() {
    this.values = COUNTED.map(() => el("dd", {}, "–"));
    this.root = el("dl", { class: "counters" }, COUNTED.map(([name, title], i) => el("div", { title }, el("dt", {}, name), this.values[i])));
  }

  clear() {
    this.values.forEach((value) => (value.textContent = "–"));
  }

  draw(timeline, moment) {
    if (!moment) return;
    const { frame } = moment;
    const committed = timeline.commits.slice(0, moment.commits).reduce((sum, commit) => sum + commit.tokens.length, 0);
    const accepted = frame ? Array.from(frame.state).filter((state) => state !== NOISE).length : 0;
    const isEnd = timeline.done && moment === timeline.moments.at(-1);
    const rate = isEnd ? timeline.done.tokens_per_forward : committed ? committed / moment.passes : NaN;
    const step = frame?.step === 0 ? "noise" : frame ? `${frame.step}${timeline.start.steps ? ` / ${timeline.start.steps}` : ""}` : lastSteps(timeline, moment);
    const shown = [step, resolved(committed + accepted, frame, committed), String(moment.passes), decimal(rate), seconds(moment.seconds)];
    shown.forEach((text, i) => (this.values[i].textContent = text));
  }
}

function resolved(number, frame, committed) {
  return frame ? `${number} / ${committed + frame.width}` : String(number);
}

function lastSteps(timeline, moment) {
  return moment.commit && !timeline.isAutoregressive ? `${moment.commit.steps}, done` : "–";
}
