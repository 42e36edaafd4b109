/** Race: one prompt, one set of weights, two ways of decoding; run one after the other, replayed side by side. */

import { chatBody, getInfo, readBoard, watch } from "../api.js";
import { conflicts, isSolved } from "../board.js";
import { CanvasView } from "../canvas.js";
import { crossingChart, crossingSentence } from "../crossing.js";
import { Options, Runner, examples, field, fill, fitting, growing, submitOnEnter } from "../form.js";
import { Grid } from "../grid.js";
import { clamp, count, decimal, el, icon, isTyping, seconds, visible } from "../util.js";

const LANES = { diffusion: "Diffusion", ar: "Autoregressive" };
const SLOWER = [1, 2, 5, 10, 20, 50, 100];
const SHOW = 6; // seconds that the slower of the two should take on screen
const PROMPTS = [
  ["Sudoku", "Solve this sudoku:\n5.73.94..\n32..5..9.\n.6.24...5\n283..45.7\n.915728.6\n67.13824.\n952.6.781\n.3.8.7..4\n.4.9..62.", "sudoku"],
  ["Facts", "Answer with JSON of this shape: {\"name\": string, \"to\": string, \"fare\": number or null, \"time\": string or null}\n\nAnna Berg travels from Oslo to Lisbon. It leaves at 14:30. The ticket costs $120.", "extraction"],
  ["One word", "Tell me the color of an emerald.", "answers"],
  ["Story", "Tell a short story about a fox who learns to swim."],
];

export class RaceView {
  #time = 0;
  #frame = 0;
  #before = 0;

  constructor(info) {
    this.info = info;
    this.prompt = growing(el("textarea", { rows: 3, required: true, value: fitting(info, PROMPTS)[0][1] }));
    this.options = new Options(info);
    this.status = el("p", { class: "status", role: "status" });
    this.runner = new Runner("Race", (signal) => this.#run(signal), (...message) => this.#say(...message));
    const form = el("form", { class: "card ask", onsubmit: (event) => this.runner.toggle(event) },
      field("Prompt", this.prompt, { wide: true }),
      el("div", { class: "row" }, examples(fitting(info, PROMPTS).map(([name, text]) => [name, text]), (text) => fill(this.prompt, text)), this.runner.button), this.runner.alert, this.options.root);
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
    this.verdict.hidden = true;
    this.controls.hidden = true;
    const { board, prompt } = await readBoard(this.prompt.value, true);
    const question = board && this.info?.skills?.includes("sudoku") ? prompt : this.prompt.value;
    for (const lane of Object.values(this.lanes)) lane.clear(board);
    // One after the other, so that neither takes processor time from the other.
    for (const [mode, name] of Object.entries(LANES)) {
      this.#say(`Running: ${name.toLowerCase()}…`);
      const asked = mode === "ar" ? {} : diffusion; // steps and samplers mean nothing token by token
      const body = chatBody(question, { ...options, diffusion: { ...asked, mode } });
      this.lanes[mode].timeline = await watch("/v1/chat/completions", body, { signal });
    }
    this.#judge(await getInfo().catch(() => this.info));
    this.#begin();
  }

  #begin() {
    this.controls.hidden = false;
    this.slower.value = String(SLOWER.find((n) => n * this.#length >= SHOW) ?? SLOWER.at(-1));
    if (this.#length >= SHOW) this.slower.value = "1";
    this.#say("Both replies on one clock…");
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
      el("h2", {}, [`${faster} was ${decimal(ratio)}× faster here.`, this.#rightness()].join(" ").trim()),
      el("p", {}, `Diffusion: ${told(diffusion)}. Autoregressive: ${told(ar)}.`),
    ];
    const perToken = ar.rate > diffusion.rate ? "Autoregressive" : "Diffusion";
    if (perToken !== faster) parts.push(el("p", {}, `The replies differ in length; by tokens per second ${perToken.toLowerCase()} was ahead.`));
    if (info?.machine?.token_ms && info.machine.step_ms) parts.push(el("p", {}, crossingSentence(info.machine, info.canvas_length)), crossingChart(info.machine, info.canvas_length, { diffusion, ar }, this.root.clientWidth || 520));
    this.verdict.replaceChildren(...parts);
    this.winner = faster;
  }

  /** Which of the boards is right, where they are boards. */
  #rightness() {
    const [diffusion, ar] = Object.values(this.lanes).map((lane) => lane.isRight);
    if (diffusion === null) return "";
    if (diffusion && ar) return "Both are right.";
    if (!diffusion && !ar) return "Neither is right.";
    return `Only ${diffusion ? "diffusion" : "autoregressive"} is right.`;
  }

  // --- replay: one clock for both lanes

  #show(time) {
    this.#time = clamp(time, 0, this.#length);
    for (const lane of Object.values(this.lanes)) lane.show(this.#time);
    this.scrub.value = (1000 * this.#time) / this.#length;
    this.scrub.setAttribute("aria-valuetext", seconds(this.#time));
    if (this.#time < this.#length || !this.verdict.hidden) return;
    this.verdict.hidden = false; // only now: nobody shall know the end before the race
    this.#say(`${this.winner} was faster.`);
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
    this.grid = new Grid(`${LANES[mode]}: the board`);
    this.grid.root.hidden = true;
    this.mark = el("p", { class: "rightness", role: "status" });
    this.root = el("article", { class: `lane ${mode}`, "aria-label": LANES[mode] }, el("h2", {}, LANES[mode]), facts,
      el("div", { class: "paper" }, this.canvas.root, this.grid.root), this.mark);
  }

  /** The digits of the answer, 0 where it has none; null where it is no board. */
  #answer(text) {
    if (!this.givens) return null;
    const digits = Array.from(text).filter((letter) => /[0-9]/.test(letter)).map(Number);
    return Array.from({ length: 81 }, (_, cell) => digits[cell] ?? 0);
  }

  get isRight() {
    const answer = this.#answer(this.timeline.finalText);
    return answer && isSolved(answer) && this.givens.every((digit, cell) => !digit || answer[cell] === digit);
  }

  #drawBoard(moment, ended) {
    const { frame } = moment ?? {};
    const answer = this.#answer(moment ? this.timeline.draftAt(moment) : "");
    const wrong = new Set(ended ? conflicts(answer).concat(answer.flatMap((digit, cell) => (this.givens[cell] && digit !== this.givens[cell] ? [cell] : []))) : []);
    this.grid.draw(answer.map((digit, cell) => {
      const position = cell + Math.floor(cell / 9);
      const isNoise = frame && (frame.state[position] ?? "n") === "n";
      const text = isNoise ? Array.from(visible(frame.tokens[position] ?? "").trim()).slice(0, 2).join("") : digit ? String(digit) : "";
      const state = isNoise ? "n" : this.givens[cell] && digit === this.givens[cell] ? "given" : digit ? "c" : "blank";
      return { text, state, level: frame?.entropy[position] ?? 0, wrong: wrong.has(cell) };
    }));
    this.mark.textContent = !ended ? "" : this.isRight ? "✓ Right: every row, column and box holds 1 to 9." : `✕ Wrong: ${count(wrong.size, "cell")} clash.`;
    this.mark.classList.toggle("bad", ended && !this.isRight);
  }

  get figures() {
    const { done, commits } = this.timeline;
    const tokens = commits.reduce((sum, commit) => sum + commit.tokens.length, 0);
    return { seconds: done.seconds, passes: done.forward_passes, tokens, rate: tokens / Math.max(1e-6, done.seconds) };
  }

  clear(givens = null) {
    this.timeline = null;
    this.givens = givens;
    this.grid.root.hidden = !givens;
    this.canvas.root.hidden = Boolean(givens);
    this.mark.textContent = "";
    this.grid.draw(Array.from({ length: 81 }, () => ({ text: "", state: "blank" })));
    this.canvas.clear();
    for (const [, value] of this.values) value.textContent = "–";
  }

  /** What stood there `time` seconds after the start. */
  show(time) {
    const { moments, done } = this.timeline;
    const moment = moments.findLast((one) => one.seconds <= time + 1e-9);
    const ended = time >= done.seconds;
    if (this.givens) this.#drawBoard(moment, ended);
    else if (moment) this.canvas.draw(this.timeline, moment);
    else this.canvas.clear();
    const rate = ended ? decimal(this.figures.rate, 0) : "…";
    const shown = [moment?.passes ?? 0, seconds(Math.min(time, done.seconds)), rate];
    this.values.forEach(([, value], i) => (value.textContent = String(shown[i])));
    this.root.classList.toggle("ended", ended);
  }
}
