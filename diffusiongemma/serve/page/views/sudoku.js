/** Sudoku: a grid to type a puzzle into, in which the canvas then settles. */

import { chatBody, conversationBody, readBoard, watch } from "../api.js";
import { ANY_BOARD, PICTURE_PROMPT, SOLVED_BOARD, SOLVE_PROMPT, answerPattern, conflicts, countSolutions, isSolved, parseBoard, puzzlePrompt } from "../board.js";
import { STATE_NAMES } from "../canvas.js";
import { Options, Runner, examples, fileButton } from "../form.js";
import { paintSquare, squaresOf } from "../grid.js";
import { Player } from "../player.js";
import { Counters, legend } from "../stage.js";
import { Timeline } from "../timeline.js";
import { dataUrl, el, isTyping } from "../util.js";

const PUZZLES = [
  ["Easy", "5.73.94..32..5..9..6.24...5283..45.7.915728.667.13824.952.6.781.3.8.7..4.4.9..62."],
  ["Medium", "2..65....68.7...5....23..1..19.2.5..7..18...45284.9.........8.9864..2.7.3..847.62"],
  ["Hard", ".7.6.4...2.9..3.4..8.7....5.2....1....1.573..34.2...9.137..5......3...6...8....7."],
  ["Unsolvable", "55..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"],
  ["Empty", ".".repeat(81)],
];

export class SudokuView {
  #givens = Array(81).fill(0);
  #timeline = null;

  constructor(info) {
    this.info = info;
    this.inputs = Array.from({ length: 81 }, (_, cell) => this.#input(cell));
    this.grid = el("div", { class: "sudoku", role: "group", "aria-label": "Sudoku board" }, this.inputs.map((input) => el("div", { class: "square" }, input)));
    this.verdict = el("p", { class: "board-verdict", role: "status" });
    this.status = el("p", { class: "status", role: "status" });
    this.counters = new Counters();
    this.player = new Player({ onMoment: (moment) => this.#show(moment) });
    this.options = new Options(info);
    this.runner = new Runner("Solve", (signal) => this.#solve(signal), (...message) => this.#say(...message));
    const form = el("form", { class: "sudoku-side", onsubmit: (event) => this.runner.toggle(event) },
      el("p", { class: "hint" }, "Type digits, move with the arrow keys, or paste a puzzle as you have it: lines, one line, CSV, blanks of any kind.", info?.images ? " A file, or a picture cut to the board, can be dropped here." : " A file can be dropped here."),
      examples(PUZZLES, (text) => this.#set(parseBoard(text))), this.verdict,
      el("div", { class: "row" }, el("div", { class: "actions" }, fileButton("Open a file…", ".txt,.csv,text/*,image/*", (file) => this.#open(file)),
        el("button", { type: "button", class: "quiet", onclick: () => this.#set(this.#givens) }, "Clear the answer")), this.runner.button),
      this.runner.alert, this.counters.root, this.player.root, legend(), this.status, this.options.root);
    this.root = el("section", { class: "view sudoku-view", "aria-label": "Sudoku" }, el("div", { class: "card" }, this.grid), form);
    this.root.addEventListener("dragover", (event) => event.preventDefault());
    this.root.addEventListener("drop", (event) => {
      event.preventDefault();
      if (event.dataTransfer.files[0]) this.#open(event.dataTransfer.files[0]);
      else this.#read(event.dataTransfer.getData("text"));
    });
    addEventListener("keydown", (event) => this.#key(event));
    this.#set(parseBoard(PUZZLES[0][1]));
  }

  #input(cell) {
    const name = `Row ${Math.floor(cell / 9) + 1}, column ${(cell % 9) + 1}`;
    return el("input", {
      type: "text", inputmode: "numeric", autocomplete: "off", "aria-label": name, "data-cell": cell,
      onfocus: (event) => event.target.select(),
      oninput: (event) => this.#typed(cell, event.target.value),
      onkeydown: (event) => this.#move(event, cell),
      onpaste: (event) => this.#paste(event),
    });
  }

  #typed(cell, value) {
    const board = [...this.#givens];
    board[cell] = Number(/[1-9]/.exec(value.slice(-1))?.[0] ?? 0);
    this.#set(board);
  }

  #paste(event) {
    const picture = Array.from(event.clipboardData.files).find((file) => file.type.startsWith("image/"));
    if (picture) {
      event.preventDefault();
      this.#open(picture);
      return;
    }
    const text = event.clipboardData.getData("text");
    if (text.trim().length < 3) return;
    event.preventDefault();
    this.#read(text);
  }

  async #open(file) {
    if (file.type.startsWith("image/")) await this.#see(file);
    else await this.#read(await file.text());
  }

  /** A picture of a board; the model reads it, and whoever dropped it looks at what it read. */
  async #see(file) {
    if (!this.info?.images) {
      const why = this.info?.skills?.length ? "was not taught to see" : "has no eyes";
      return this.#say(`${this.info?.model ?? "This model"} ${why}, so it cannot read a picture of a board. Type the digits or paste them as text.`, true);
    }
    const solves = this.info.skills?.includes("sudoku-pictures");
    const [text, regex] = solves ? [SOLVE_PROMPT, SOLVED_BOARD] : [PICTURE_PROMPT, ANY_BOARD];
    this.#say("Reading the picture…");
    try {
      const content = [{ type: "image_url", image_url: { url: await dataUrl(file) } }, { type: "text", text }];
      const read = await watch("/v1/chat/completions", conversationBody([{ role: "user", content }], { max_tokens: 128, diffusion: { regex } }));
      const board = parseBoard(read.finalText);
      if (!board) return this.#say("The model read no board in that picture. Type the digits or paste them as text.", true);
      this.#set(board);
      this.#say(solves ? solvedFrom(board) : "Read from the picture. Compare it with yours before it is solved.");
    } catch (error) {
      this.#say(error.message, true);
    }
  }

  /** A board in whatever spelling; the server reads it. */
  async #read(text) {
    try {
      const { board } = await readBoard(text);
      if (board) this.#set(board);
      else this.#say("No sudoku found there: nine lines of nine cells are needed, or 81 in one line.", true);
    } catch (error) {
      this.#say(error.message, true);
    }
  }

  #move(event, cell) {
    const [row, column] = [Math.floor(cell / 9), cell % 9];
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    this.inputs[9 * ((row + step[0] + 9) % 9) + ((column + step[1] + 9) % 9)].focus();
  }

  /** A new puzzle on the grid, without an answer; says at once whether it can be solved. */
  #set(board) {
    this.#givens = [...board];
    this.#timeline = null;
    this.player.load(new Timeline(), { playing: false });
    this.#say("");
    const wrong = new Set(conflicts(board));
    this.inputs.forEach((input, cell) => paint(input, { text: board[cell] ? String(board[cell]) : "", state: board[cell] ? "given" : "blank", wrong: wrong.has(cell) }));
    this.#judge(board, wrong.size);
  }

  #judge(board, clashes) {
    const solutions = countSolutions(board);
    const sentences = {
      0: clashes ? "This board has no solution: marked digits stand twice in a row, column or box." : "This board has no solution.",
      1: "This board has exactly one solution.",
      2: "This board has more than one solution: any valid one counts.",
    };
    this.verdict.textContent = sentences[solutions] ?? "Whether this board has one solution takes too long to say.";
    this.verdict.classList.toggle("bad", solutions === 0);
    this.runner.button.disabled = solutions === 0;
  }

  async #solve(signal) {
    const board = this.#givens;
    const { diffusion, system: _, max_tokens: __, ...options } = this.options.values();
    const body = chatBody(puzzlePrompt(board), { ...options, diffusion: { ...diffusion, regex: answerPattern(board) } });
    const timeline = (this.#timeline = new Timeline());
    this.player.load(timeline, { live: true });
    this.#say("Solving…");
    const isShown = () => this.#timeline === timeline;
    try {
      await watch("/v1/chat/completions", body, { signal, timeline, onEvent: () => isShown() && this.player.grown(true) });
    } finally {
      if (isShown()) this.player.grown(false);
    }
    if (isShown()) this.#report(timeline);
  }

  #report(timeline) {
    const answer = parseBoard(timeline.finalText);
    const { steps } = timeline;
    if (!answer) this.#say("The answer is not a whole board.", true);
    else if (isSolved(answer)) this.#say(`Solved in ${steps} steps: every row, column and box holds 1–9 once.`);
    else this.#say(`Not solved: ${conflicts(answer).length} cells of the answer clash. Try another seed.`, true);
  }

  /** The grid as of a moment: tokens where the canvas has them, clashes marked once all is committed. */
  #show(moment) {
    const timeline = this.#timeline;
    if (!timeline) return;
    this.counters.draw(timeline, moment);
    if (moment.frame) return this.#showFrame(moment.frame);
    const answer = parseBoard(timeline.committedAt(moment).map(({ token }) => token).join(""));
    const wrong = new Set(answer ? conflicts(answer) : []);
    this.inputs.forEach((input, cell) => !this.#givens[cell] && paint(input, { text: String(answer?.[cell] || ""), state: "c", wrong: wrong.has(cell) }));
  }

  #showFrame(frame) {
    squaresOf(this.#timeline, frame, this.#givens).forEach((square, cell) => !this.#givens[cell] && paint(this.inputs[cell], square));
  }

  #key(event) {
    if (!this.root.isConnected || this.root.hidden || isTyping(event.target)) return;
    if (event.key === " " && event.target.closest?.("button, a, summary")) return;
    if (this.player.key(event)) event.preventDefault();
  }

  #say(message, isError = false) {
    this.status.textContent = message;
    this.status.classList.toggle("error", isError);
  }
}

function solvedFrom(board) {
  if (isSolved(board)) return "Read from the picture and solved at once. Compare its digits with yours.";
  return "Not solved: the picture was read wrongly, or the puzzle was too hard. It must be cut to the board, and square.";
}

function paint(input, square) {
  paintSquare(input.parentElement, square);
  input.setAttribute("aria-invalid", String(square.wrong ?? false));
  input.title = STATE_NAMES[square.state] ?? "";
}
