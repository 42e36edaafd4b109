/** What one cell went through: its drafts over the steps, its entropy, the step since which it stood. */

import { STATE_NAMES } from "./canvas.js";
import { nats } from "./protocol.js";
import { decimal, el, visible } from "./util.js";

const TOP_LEVEL = 35;

export class Inspector {
  #where = null;

  constructor() {
    this.body = el("div", { class: "inspected", "aria-live": "polite" });
    const close = el("button", { type: "button", class: "icon-button close", "aria-label": "Close", onclick: () => this.look(null, null, null) }, "✕");
    this.root = el("aside", { class: "inspector", "aria-label": "Cell" }, el("div", { class: "row" }, el("h2", {}, "One place, step by step"), close), this.body);
    this.draw(null, null);
  }

  look(where, timeline, moment) {
    this.#where = where;
    this.draw(timeline, moment);
  }

  /** Draw the cell looked at as of `moment`; without one, how to choose it. */
  draw(timeline, moment) {
    const where = this.#where;
    this.root.classList.toggle("open", Boolean(where && timeline)); // a sheet from below on a phone
    const frames = where && timeline ? timeline.framesOf(where.canvas).filter((frame) => frame.step > 0) : [];
    const commit = where && timeline?.commits.find((one) => one.canvas === where.canvas && (!where.commit || one === where.commit));
    if (!where || (!frames.length && !commit)) {
      this.#where = null;
      this.body.replaceChildren(el("p", { class: "hint" }, "Point at a cell, or move through the canvas with the arrow keys, to see the drafts it went through."),
        el("p", { class: "hint keys" }, el("kbd", {}, "Space"), " plays and pauses, ", el("kbd", {}, "←"), " ", el("kbd", {}, "→"), " step."));
      return;
    }
    this.body.replaceChildren(facts(where, commit, frames, moment), ...drafts(frames, where.position, moment), ...candidates(commit?.alternatives?.[where.position]));
  }
}

function facts({ canvas, position }, commit, frames, moment) {
  const frame = moment?.frame?.canvas === canvas ? moment.frame : null;
  const token = frame ? frame.tokens[position] : commit?.tokens[position] ?? frames.at(-1)?.tokens[position] ?? "";
  const rows = [["Position", `${position}, canvas ${canvas + 1}`]];
  if (frame) rows.push(["Holds", frame.lost[position] ? "taken back in this step: noise again" : STATE_NAMES[frame.state[position]] ?? ""], ["Entropy", `${decimal(nats(frame.entropy[position]), 3)} nats`]);
  const written = !frame && position >= (commit?.tokens.length ?? 0) - (commit?.written ?? 0);
  if (written && commit?.written) rows.push(["Written by", "the second look, from left to right"]);
  else if (commit?.settled?.[position] !== undefined) rows.push(["Unchanged since", `step ${commit.settled[position]}`]);
  const accepted = frames.find((one) => "adps".includes(one.state[position]));
  if (accepted) rows.push(["First accepted", `step ${accepted.step}`]);
  if (Number.isFinite(commit?.logprobs?.[position])) rows.push(["Log-probability", decimal(commit.logprobs[position], 3)]);
  if (!frame && Number.isFinite(commit?.entropies?.[position])) rows.push(["Entropy", `${decimal(commit.entropies[position], 3)} nats`]);
  const list = el("dl", {}, rows.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
  return el("div", {}, el("p", { class: "big-token" }, visible(token)), list);
}

/** The most probable tokens when the canvas was committed, with their probabilities. */
function candidates(told) {
  if (!told?.length) return [];
  const item = ([text, logprob]) => {
    const share = Math.exp(logprob);
    const bar = el("meter", { min: 0, max: 1, value: share, "aria-hidden": "true" });
    return el("li", {}, el("span", { class: "steps" }, percent(share)), el("span", { class: "token" }, visible(text)), bar);
  };
  return [el("h3", {}, "Candidates at the end"), el("ol", { class: "candidates" }, told.map(item))];
}

function percent(share) {
  if (share < 0.0005) return "< 0.1 %";
  return share > 0.9995 && share < 1 ? "> 99.9 %" : `${decimal(100 * share, share < 0.1 ? 1 : 0)} %`;
}

/** The most probable token at each step, steps that agree taken together. */
function drafts(frames, position, moment) {
  const runs = [];
  for (const frame of frames) {
    const text = frame.drafts[position] ?? "";
    if (runs.at(-1)?.text !== text) runs.push({ text, first: frame.step, last: frame.step, levels: [] });
    runs.at(-1).last = frame.step;
    runs.at(-1).levels.push(frame.entropy[position] ?? 0);
  }
  if (!runs.length) return [];
  const now = moment?.frame?.step ?? Infinity;
  return [el("h3", {}, "Most probable token"), el("ol", { class: "runs" }, runs.map((run) => runItem(run, now)))];
}

function runItem({ text, first, last, levels }, now) {
  const mean = levels.reduce((sum, level) => sum + level, 0) / levels.length;
  const bar = el("span", { class: "bar", "aria-hidden": "true" });
  bar.style.setProperty("--e", (mean / TOP_LEVEL).toFixed(3));
  const steps = first === last ? `${first}` : `${first}–${last}`;
  const current = now >= first && now <= last ? "true" : undefined;
  return el("li", { "aria-current": current }, el("span", { class: "steps" }, steps), el("span", { class: "token" }, visible(text)), bar);
}
