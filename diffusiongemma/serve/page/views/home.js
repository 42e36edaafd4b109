/** The first ten seconds: a board, then a sentence, settling out of noise in slow motion; one button. */

import { chatBody, watch } from "../api.js";
import { answerPattern, isSolved, parseBoard, puzzlePrompt, shuffled } from "../board.js";
import { CanvasView } from "../canvas.js";
import { Runner } from "../form.js";
import { Grid, squaresOf, squaresOfAnswer } from "../grid.js";
import { Player } from "../player.js";
import { slowed } from "../slow.js";
import { Timeline } from "../timeline.js";
import { count, el, seconds, still } from "../util.js";

const PUZZLES = [
  "2..65....68.7...5....23..1..19.2.5..7..18...45284.9.........8.9864..2.7.3..847.62",
  "753.....1....9.35.2.931.....92..61..6.4.2..3......94..145.8276.3..17...5.8.......",
  "5.73.94..32..5..9..6.24...5283..45.7.915728.667.13824.952.6.781.3.8.7..4.4.9..62.",
];
const RECORDED = ["sudoku", "sentence"];
const HOLD = 2600; // milliseconds that a finished picture stays
const FADE = 70; // and each picture on the way back to noise

export class HomeView {
  #showing = null; // {timeline, slow, givens}
  #touched = false;
  #timer = 0;
  #recorded = [];

  constructor(info, { goTo }) {
    this.goTo = goTo;
    this.grid = new Grid("A sudoku that settles out of noise");
    this.text = new CanvasView({ label: "A sentence that settles out of noise" });
    this.player = new Player({ onMoment: (moment) => this.#show(moment) });
    this.line = el("p", { class: "hero-line" }, "A language model that begins with noise and finds all words at once.");
    this.told = el("p", { class: "status", role: "status" });
    this.runner = new Runner("Watch it solve one now", (signal) => this.#run(signal), (message) => (this.told.textContent = message));
    this.more = el("div", { class: "actions" },
      this.#link("Type your own sudoku", "sudoku"), this.#link("Give it a text", "chat"), this.#link("Look closer", "watch"));
    this.about = el("p", { class: "hint about" });
    this.picture = el("div", { class: "hero-picture" }, this.grid.root, el("div", { class: "paper hero-text" }, this.text.root));
    this.pauseButton = el("button", { type: "button", class: "quiet pause", onclick: () => this.#touch() }, "Pause");
    const form = el("form", { class: "hero-side", onsubmit: (event) => this.runner.toggle(event) },
      el("h2", { class: "hero-title" }, "Text that settles"), this.line, el("div", { class: "actions" }, this.runner.button, this.pauseButton), this.runner.alert, this.told, this.more, this.about);
    this.root = el("section", { class: "view home", "aria-label": "Start" }, this.picture, form);
    this.inform(info);
    this.#play();
  }

  /** What the server says of itself; the recording plays before that is known. */
  inform(info) {
    this.info = info;
    this.about.textContent = info?.about ?? "";
    const solves = !info?.skills?.length || info.skills.includes("sudoku");
    this.runner.button.hidden = !solves;
  }

  #link(label, view) {
    return el("a", { class: "quiet", href: `#${view}` }, label);
  }

  async #play() {
    this.#recorded = await Promise.all(RECORDED.map(async (name) => {
      const response = await fetch(new URL(`../recordings/${name}.json`, import.meta.url));
      return Timeline.fromTrace(await response.json());
    }));
    if (!this.#showing) this.#open(this.#recorded[0]);
  }

  /** Play a timeline slowly, from its noise. */
  #open(timeline, extra = {}) {
    const board = parseBoard(timeline.request?.givens ?? "");
    this.#showing = { timeline, slow: slowed(timeline), givens: board ?? Array(81).fill(0), isBoard: board !== null, ...extra };
    this.grid.root.hidden = board === null;
    this.text.root.parentElement.hidden = board !== null;
    this.grid.celebrate(false);
    this.text.clear();
    this.player.load(this.#showing.slow, { playing: !still() });
  }

  #show(moment) {
    const { timeline, slow, givens, isBoard } = this.#showing;
    if (!isBoard) this.text.draw(timeline, moment);
    else if (moment.frame) this.grid.draw(squaresOf(timeline, moment.frame, givens));
    else this.grid.draw(squaresOfAnswer(parseBoard(timeline.finalText) ?? givens, givens));
    if (moment === slow.moments.at(-1)) this.#end();
  }

  #end() {
    const { live, timeline, isBoard } = this.#showing;
    if (isBoard && isSolved(parseBoard(timeline.finalText) ?? [0])) this.grid.celebrate(true);
    if (live) return this.#tell();
    clearTimeout(this.#timer);
    if (!this.#touched && !still()) this.#timer = setTimeout(() => this.#dissolve(() => this.#next()), HOLD);
  }

  /** Back to noise, faster than it came. */
  #dissolve(then) {
    const { slow } = this.#showing;
    let index = slow.moments.length - 1;
    this.grid.celebrate(false);
    const back = () => {
      if (this.#touched || !this.root.isConnected) return;
      while (index >= 0 && !slow.moments[index].frame) index -= 1;
      if (index < 0) return then();
      this.#draw(slow.moments[index--]);
      this.#timer = setTimeout(back, FADE);
    };
    back();
  }

  #draw(moment) {
    const { timeline, givens, isBoard } = this.#showing;
    if (isBoard) this.grid.draw(squaresOf(timeline, moment.frame, givens));
    else this.text.draw(timeline, moment);
  }

  #next() {
    const at = this.#recorded.indexOf(this.#showing.timeline);
    this.#open(this.#recorded[(at + 1) % this.#recorded.length]);
  }

  /** Stop the loop, or let it go on. */
  #touch(touched = !this.#touched) {
    this.#touched = touched;
    this.pauseButton.textContent = touched ? "Play" : "Pause";
    clearTimeout(this.#timer);
    if (touched) this.player.pause();
    else if (this.#showing) this.#open(this.#showing.timeline);
  }

  async #run(signal) {
    this.#touch(true);
    this.pauseButton.hidden = true;
    const board = shuffled(parseBoard(PUZZLES[Math.floor(Math.random() * PUZZLES.length)]));
    const blank = this.#showing?.isBoard ? null : this.grid;
    blank?.draw(squaresOfAnswer(board, board));
    this.told.textContent = "Solving…";
    const body = chatBody(puzzlePrompt(board), { seed: Math.floor(Math.random() * 2 ** 31), diffusion: { regex: answerPattern(board) } });
    const timeline = await watch("/v1/chat/completions", body, { signal });
    timeline.request = { ...timeline.request, givens: board.map((digit) => digit || ".").join("") };
    this.told.textContent = "In slow motion: every cell begins as a random token…";
    await new Promise((resolve) => this.#open(timeline, { live: resolve }));
    this.runner.label = "Another one";
  }

  /** The verdict, once all has been seen. */
  #tell() {
    const { timeline, live } = this.#showing;
    const right = isSolved(parseBoard(timeline.finalText) ?? [0]);
    const took = `${count(timeline.steps, "step")}, ${seconds(timeline.done?.seconds)}`;
    this.told.textContent = right ? `Solved in ${took}: every row, column and box holds 1 to 9.` : `Not solved this time (${took}): the marked cells clash. Try another one.`;
    live();
  }
}
