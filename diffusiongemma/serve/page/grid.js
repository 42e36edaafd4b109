/** A sudoku board to look at: cells that settle out of noise, and what is wrong with them at the end. */

import { conflicts, positionsOf } from "./board.js";
import { el, visible } from "./util.js";

const TOP_LEVEL = 35;

/** How a square looks: a given, noise, a token in one of its states, or blank. */
export function paintSquare(square, { text = "", state = "blank", level = 0, wrong = false, lost = false }) {
  square.dataset.state = state;
  square.style.setProperty("--e", (level / TOP_LEVEL).toFixed(3));
  square.classList.toggle("wrong", wrong);
  square.classList.toggle("lost", lost);
  const writable = square.firstElementChild;
  if (writable) {
    if (writable.value !== text) writable.value = text;
  } else if (square.textContent !== text) square.textContent = text;
}

/** What each of the 81 cells shows in a frame of a timeline; the givens stand. */
export function squaresOf(timeline, frame, givens) {
  const positions = positionsOf(timeline, frame);
  return positions.map((position, cell) => {
    if (givens[cell]) return { text: String(givens[cell]), state: "given" };
    const state = frame.state[position] ?? "n";
    const token = visible(frame.tokens[position] ?? "").trim();
    return { text: Array.from(token).slice(0, state === "n" ? 2 : 1).join(""), state, level: frame.entropy[position] ?? 0, lost: frame.lost[position] ?? false };
  });
}

/** The cells of a finished answer. */
export function squaresOfAnswer(answer, givens) {
  const wrong = new Set(conflicts(answer));
  return answer.map((digit, cell) => ({ text: digit ? String(digit) : "", state: givens[cell] ? "given" : "c", wrong: wrong.has(cell) }));
}

export class Grid {
  constructor(label) {
    this.squares = Array.from({ length: 81 }, () => el("div", { class: "square" }));
    this.root = el("div", { class: "sudoku shown", role: "img", "aria-label": label }, this.squares);
  }

  draw(squares) {
    squares.forEach((square, cell) => paintSquare(this.squares[cell], square));
  }

  /** A wave over the board, once it is right. */
  celebrate(on) {
    this.squares.forEach((square, cell) => square.style.setProperty("--delay", `${25 * (Math.floor(cell / 9) + (cell % 9))}ms`));
    this.root.classList.toggle("solved", on);
  }
}
