/** Replay: a kept generation, played again, branched from any step, exported. */

import { readTrace, watch } from "../api.js";
import { Runner, choice, field, fileButton, number, samplerNames } from "../form.js";
import { shareButtons, traceOfLink } from "../share.js";
import { Stage } from "../stage.js";
import { Timeline } from "../timeline.js";
import { download, el } from "../util.js";

export class ReplayView {
  #takes = []; // {name, timeline}: the trace that was opened, then its branches

  constructor(info) {
    this.file = fileButton("Open a trace…", ".npz,.json", (file) => this.#openFile(file));
    this.saveButton = el("button", { type: "button", class: "quiet", disabled: true, onclick: () => this.#save() }, "Save trace");
    this.stage = new Stage({
      empty: "Open a trace: a file that Watch saved, or that run --trace wrote.",
      actions: [this.saveButton],
      onMoment: () => this.#showPoint(),
    });
    this.share = shareButtons(this.stage);
    this.share.hidden = true;
    this.stage.player.root.after(this.share);
    this.takes = el("div", { class: "chips takes", role: "group", "aria-label": "Takes" });
    this.root = el("section", { class: "view", "aria-label": "Replay" }, el("div", { class: "card ask replay-top" }, el("div", { class: "field" }, this.file, el("span", { class: "hint" }, "What “Save trace” or run --trace wrote; it can be dropped here too.")), this.#branchForm(info)), this.takes, this.stage.root);
    this.root.addEventListener("dragover", (event) => event.preventDefault());
    this.root.addEventListener("drop", (event) => {
      event.preventDefault();
      this.#openFile(event.dataTransfer.files[0]);
    });
    this.#showPoint();
    this.#openLink();
    addEventListener("hashchange", () => this.#openLink());
  }

  /** The generation that the address carries. */
  async #openLink() {
    try {
      const trace = await traceOfLink(location.hash);
      if (trace) this.open(trace);
    } catch (error) {
      this.stage.say(error.message, true);
    }
  }

  #branchForm(info) {
    this.seed = number({ min: 0, step: 1, value: 1 });
    this.sampler = choice([["", "the same"], ...samplerNames(info)], "");
    this.point = el("p", { class: "hint" });
    this.runner = new Runner("Branch", (signal) => this.#branch(signal), (...message) => this.stage.say(...message));
    return el("form", { class: "branch", onsubmit: (event) => this.runner.toggle(event) },
      el("div", { class: "fields" }, field("New seed", this.seed), field("New sampler", this.sampler), this.runner.button), this.runner.alert, this.point);
  }

  async #openFile(file) {
    if (!file) return;
    try {
      const bytes = await file.arrayBuffer();
      const isJson = new Uint8Array(bytes, 0, Math.min(1, bytes.byteLength))[0] === 0x7b; // "{"
      this.open(isJson ? JSON.parse(new TextDecoder().decode(bytes)) : await readTrace(bytes));
    } catch (error) {
      const message = error instanceof SyntaxError ? "This file is not whole: it is not JSON to its end." : error.message;
      this.stage.say(message, true);
    }
  }

  /** Show a trace object, at a moment if one is given, else from its start. */
  open(trace, index = null) {
    this.#takes = [];
    this.#add("Original", Timeline.fromTrace(trace), { playing: index === null });
    if (index !== null) this.stage.player.go(index);
  }

  #add(name, timeline, options) {
    this.#takes.push({ name, timeline });
    this.stage.load(timeline, options);
    this.#showTakes();
  }

  #showTakes() {
    const current = this.stage.timeline;
    const chip = ({ name, timeline }) => el("button", {
      type: "button", class: "chip", "aria-pressed": String(timeline === current),
      onclick: () => {
        const { index } = this.stage.player;
        this.stage.load(timeline, { playing: false });
        this.stage.player.go(index);
        this.#showTakes();
      },
    }, name);
    this.takes.replaceChildren(...(this.#takes.length > 1 ? this.#takes.map(chip) : []));
    this.saveButton.disabled = this.share.hidden = !current?.moments.length;
    this.#showPoint();
  }

  /** The step before which the new seed takes over is told in words, and whether there is anything to branch from. */
  #showPoint() {
    const { timeline, moment } = this.stage;
    const frame = moment?.frame;
    const isBranch = Boolean(timeline?.request?.body.diffusion?.branch);
    this.runner.button.disabled = !frame || !timeline.request || isBranch;
    if (!timeline) this.point.textContent = "A branch goes on from the step shown with another seed or sampler.";
    else if (!timeline.request) this.point.textContent = "This trace does not say how it was asked for, so it cannot be branched; one saved by Watch can.";
    else if (isBranch) this.point.textContent = "A branch cannot be branched again: choose the original.";
    else if (!frame) this.point.textContent = "Go to a step of a canvas to branch from it.";
    else this.point.textContent = `Follows the original to step ${frame.step} of canvas ${frame.canvas + 1}, then goes its own way.`;
  }

  async #branch(signal) {
    const { timeline: origin, moment } = this.stage;
    const { canvas, step } = moment.frame;
    const body = structuredClone(origin.request.body);
    const branch = { canvas, step, seed: Number(this.seed.value), ...(this.sampler.value ? { sampler: this.sampler.value } : {}) };
    body.diffusion = { ...body.diffusion, branch };
    const timeline = new Timeline();
    const name = `Step ${step}, seed ${branch.seed}${this.sampler.value ? `, ${this.sampler.value.replaceAll("_", " ")}` : ""}`;
    this.#add(name, timeline, { live: true });
    try {
      await watch(origin.request.path, body, { signal, timeline, onEvent: () => this.stage.timeline === timeline && this.stage.grown(true) });
    } catch (error) {
      if (!timeline.moments.length) this.#drop(timeline, origin);
      throw error;
    } finally {
      if (this.stage.timeline === timeline) this.stage.grown(false);
      this.#showTakes();
    }
  }

  #drop(timeline, origin) {
    this.#takes = this.#takes.filter((take) => take.timeline !== timeline);
    this.stage.load(origin, { playing: false });
  }

  #save() {
    download("trace.json", JSON.stringify(this.stage.timeline.toTrace()), "application/json");
  }
}
