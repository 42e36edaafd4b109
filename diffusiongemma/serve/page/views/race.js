/** Race: one prompt, one set of weights, two ways of decoding; run one after the other, replayed side by side. */

import { chatBody, getInfo, watch } from "../api.js";
import { CanvasView } from "../canvas.js";
import { crossingChart, crossingSentence } from "../crossing.js";
import { Options, Runner, examples, field, firstPrompt } from "../form.js";
import { clamp, decimal, el, icon, isTyping, seconds } from "../util.js";
import { submitOnEnter } from "./watch.js";

const LANES = { diffusion: "Diffusion", ar: "Autoregressive" };
const SLOWER = [1, 2, 5, 10, 20, 50, 100];
const SHOW = 6; // seconds that the slower of the two should take on screen
const PROMPTS = [
  ["Story", "Tell a short story about a fox who learns to swim."],
  ["One word", "What colour is the sky? Answer in one word."],
  ["Sudoku", "Solve this sudoku:\n5.73.94..\n32..5..9.\n.6.24...5\n283..45.7\n.915728.6\n67.13824.\n952.6.781\n.3.8.7..4\n.4.9..62."],
];

export class RaceView {
  #time = 0;
  #frame = 0;
  #before = 0;

  constructor(info) {
    this.info = info;
    this.prompt = el("textarea", { rows: 2, required: true, value: firstPrompt(info, PROMPTS) });
    this.options = new Options(info);
    this.status = el("p", { class: "status", role: "status" });
    this.runner = new Runner("Race", (signal) => this.#run(signal), (...message) => this.#say(...message));
    const form = el("form", { class: "card ask", onsubmit: (event) => this.runner.toggle(event) },
      field("Prompt", this.prompt, { wide: true }),
      el("div", { class: "row" }, examples(PROMPTS, (text) => (this.prompt.value = text)), this.runner.button), this.options.root);
    submitOnEnter(this.prompt, form);
    this.lanes = Object.fromEntries(Object.keys(LANES).map((mode) => [mode, new Lane(mode)]));
    this.verdict = el("div", { class: "verdict", hidden: true });
    this.root = el("section", { class: "view", "aria-label": "Race" }, form, this.status,
      this.#controls(), el("div", { class: "lanes" }, Object.values(this.lanes).map((lane) => lane.root)), this.verdict);
    addEventListener("keydown", (event) => this.#key(event));
  }

  #controls() {
    this.toggleButton = el("button", { type: "button", class: "icon-button", "aria-label": "Play", onclick: () => this.#toggle() }, icon("play"));
    this.scrub = el("input", { type: "range", class: "scrub", min: 0, max: 1000, value: 0, "aria-label": "Time", oninput: () => {
      this.#pause();
      this.#show((this.#length * this.scrub.value) / 1000);
    } });
    this.slower = el("select", { "aria-label": "Pace of the replay, the same for both" }, SLOWER.map((n) => el("option", { value: n }, n === 1 ? "real time" : `${n}× slower`)));
    this.controls = el("div", { class: "player", role: "group", "aria-label": "Player", hidden: true }, this.toggleButton, this.scrub, this.slower);
    return this.controls;
  }

  async #run(signal) {
    this.#pause();
    this.controls.hidden = this.verdict.hidden = true;
    const { diffusion, ...options } = this.options.values();
    for (const lane of Object.values(this.lanes)) lane.clear();
    // One after the other, so that neither takes processor time from the other.
    for (const [mode, name] of Object.entries(LANES)) {
      this.#say(`Running: ${name.toLowerCase()}…`);
      const asked = mode === "ar" ? {} : diffusion; // steps and samplers mean nothing token by token
      const body = chatBody(this.prompt.value, { ...options, diffusion: { ...asked, mode } });
      this.lanes[mode].timeline = await watch("/v1/chat/completions", body, { signal });
    }
    this.#judge(await getInfo().catch(() => this.info));
    this.#begin();
  }

  #begin() {
    this.controls.hidden = false;
    this.slower.value = String(SLOWER.find((n) => n * this.#length >= SHOW) ?? SLOWER.at(-1));
    if (this.#length >= SHOW) this.slower.value = "1";
    this.#show(0);
    this.#toggle();
  }

  get #length() {
    return Math.max(0.001, ...Object.values(this.lanes).map((lane) => lane.timeline?.done?.seconds ?? 0));
  }

  /** Who was faster, by how much, and from which length on it would be the other. */
  #judge(info) {
    const { diffusion, ar } = Object.fromEntries(Object.entries(this.lanes).map(([mode, lane]) => [mode, lane.figures]));
    const faster = ar.seconds < diffusion.seconds ? "Autoregressive" : "Diffusion";
    const ratio = Math.max(ar.seconds, diffusion.seconds) / Math.max(1e-6, Math.min(ar.seconds, diffusion.seconds));
    const parts = [
      el("h2", {}, `${faster} was ${decimal(ratio)}× faster here.`),
      el("p", {}, `Diffusion: ${told(diffusion)}. Autoregressive: ${told(ar)}.`),
    ];
    const perToken = ar.rate > diffusion.rate ? "Autoregressive" : "Diffusion";
    if (perToken !== faster) parts.push(el("p", {}, `The replies differ in length; by tokens per second ${perToken.toLowerCase()} was ahead.`));
    if (info?.machine?.token_ms && info.machine.step_ms) parts.push(el("p", {}, crossingSentence(info.machine, info.canvas_length)), crossingChart(info.machine, info.canvas_length, { diffusion, ar }));
    this.verdict.replaceChildren(...parts);
    this.verdict.hidden = false;
    this.#say(`${faster} was faster.`);
  }

  // --- replay: one clock for both lanes

  #show(time) {
    this.#time = clamp(time, 0, this.#length);
    for (const lane of Object.values(this.lanes)) lane.show(this.#time);
    this.scrub.value = (1000 * this.#time) / this.#length;
    this.scrub.setAttribute("aria-valuetext", seconds(this.#time));
  }

  #toggle() {
    if (this.#frame) return this.#pause();
    if (this.#time >= this.#length) this.#show(0);
    this.#before = performance.now();
    this.#frame = requestAnimationFrame((now) => this.#tick(now));
    this.#label("Pause");
  }

  #tick(now) {
    this.#show(this.#time + Math.max(0, now - this.#before) / 1000 / Number(this.slower.value));
    this.#before = now;
    if (this.#time >= this.#length) this.#pause();
    else this.#frame = requestAnimationFrame((next) => this.#tick(next));
  }

  #pause() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#label("Play");
  }

  #label(name) {
    this.toggleButton.replaceChildren(icon(name.toLowerCase()));
    this.toggleButton.setAttribute("aria-label", name);
  }

  #key(event) {
    const { target } = event;
    if (!this.root.isConnected || this.root.hidden || this.controls.hidden || isTyping(target)) return;
    if (event.key === " " && !target.closest?.("button, a, summary")) this.#toggle();
    else if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
      this.#pause();
      this.#show(this.#time + (event.key === "ArrowRight" ? 1 : -1) * this.#length / 50);
    } else return;
    event.preventDefault();
  }

  #say(message, isError = false) {
    this.status.textContent = message;
    this.status.classList.toggle("error", isError);
  }
}

function told({ seconds: time, passes, tokens, rate }) {
  return `${seconds(time)}, ${passes} forward passes for ${tokens} tokens, ${decimal(rate, 0)} tokens/s`;
}

class Lane {
  timeline = null;

  constructor(mode) {
    this.canvas = new CanvasView({ label: `${LANES[mode]}: the reply` });
    this.values = ["forward passes", "time", "tokens/s"].map((name) => [name, el("dd", {}, "–")]);
    const facts = el("dl", { class: "counters" }, this.values.map(([name, value]) => el("div", {}, el("dt", {}, name), value)));
    this.root = el("article", { class: `lane ${mode}`, "aria-label": LANES[mode] }, el("h2", {}, LANES[mode]), facts, el("div", { class: "paper" }, this.canvas.root));
  }

  get figures() {
    const { done, commits } = this.timeline;
    const tokens = commits.reduce((sum, commit) => sum + commit.tokens.length, 0);
    return { seconds: done.seconds, passes: done.forward_passes, tokens, rate: tokens / Math.max(1e-6, done.seconds) };
  }

  clear() {
    this.timeline = null;
    this.canvas.clear();
    for (const [, value] of this.values) value.textContent = "–";
  }

  /** What stood there `time` seconds after the start. */
  show(time) {
    const { moments, done } = this.timeline;
    const moment = moments.findLast((one) => one.seconds <= time + 1e-9);
    const ended = time >= done.seconds;
    if (moment) this.canvas.draw(this.timeline, moment);
    else this.canvas.clear();
    const rate = ended ? decimal(this.figures.rate, 0) : "…";
    const shown = [moment?.passes ?? 0, seconds(Math.min(time, done.seconds)), rate];
    this.values.forEach(([, value], i) => (value.textContent = String(shown[i])));
    this.root.classList.toggle("ended", ended);
  }
}
