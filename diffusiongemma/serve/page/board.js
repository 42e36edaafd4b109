/** Sudoku boards: arrays of 81 digits, row by row, 0 for a blank. */

const UNITS = [];
for (let i = 0; i < 9; i++) {
  UNITS.push(Array.from({ length: 9 }, (_, j) => 9 * i + j));
  UNITS.push(Array.from({ length: 9 }, (_, j) => 9 * j + i));
  UNITS.push(Array.from({ length: 9 }, (_, j) => 27 * Math.floor(i / 3) + 3 * (i % 3) + 9 * Math.floor(j / 3) + (j % 3)));
}
const PEERS = Array.from({ length: 81 }, (_, cell) => {
  return [...new Set(UNITS.filter((unit) => unit.includes(cell)).flat())].filter((peer) => peer !== cell);
});
const MOST_TRIES = 200_000;

/** The board of an answer: 81 digits or dots, whatever stands between them; null for another number. What people write is read by the server. */
export function parseBoard(text) {
  const cells = text.match(/[0-9._]/g) ?? [];
  return cells.length === 81 ? cells.map((character) => Number(character) || 0) : null;
}

/** The same puzzle in other clothes: digits renamed, rows and columns exchanged within their boxes. */
export function shuffled(board, random = Math.random) {
  const order = (n) => Array.from({ length: n }, (_, i) => ({ i, at: random() })).sort((a, b) => a.at - b.at).map(({ i }) => i);
  const lineOrder = () => order(3).flatMap((band) => order(3).map((line) => 3 * band + line));
  const [rows, columns, names] = [lineOrder(), lineOrder(), order(9)];
  return rows.flatMap((row) => columns.map((column) => board[9 * row + column])).map((digit) => digit && names[digit - 1] + 1);
}

function lines(characters) {
  return Array.from({ length: 9 }, (_, row) => characters.slice(9 * row, 9 * row + 9).join("")).join("\n");
}

/** The prompt that the models are trained on (train/tasks/sudoku.py, `format_puzzle`). */
export function puzzlePrompt(board) {
  return `${SOLVE_PROMPT}\n${lines(board.map((digit) => digit || "."))}`;
}

/** What an answer must match: the givens in their places, 1-9 elsewhere. */
export function answerPattern(board) {
  return lines(board.map((digit) => digit || "[1-9]"));
}

/** What the reading of a picture must match: nine lines of nine digits, or dots for blanks. */
export const ANY_BOARD = Array(9).fill("[1-9.]{9}").join("\n");
export const PICTURE_PROMPT = "Read the sudoku in this picture: nine lines of nine characters, a dot for each blank.";
/** The same for a model that was taught to answer a picture with the solved board. */
export const SOLVED_BOARD = Array(9).fill("[1-9]{9}").join("\n");
export const SOLVE_PROMPT = "Solve this sudoku:";

/** Cells whose digit stands twice in a row, column or box. */
export function conflicts(board) {
  return board.flatMap((digit, cell) => (digit && PEERS[cell].some((peer) => board[peer] === digit) ? [cell] : []));
}

export function isSolved(board) {
  return board.every((digit) => digit > 0) && conflicts(board).length === 0;
}

/** How many solutions a board has: 0, 1, 2 for "two or more", or null where that takes too long to say. */
export function countSolutions(board) {
  if (conflicts(board).length) return 0;
  const search = { cells: [...board], found: 0, tries: 0 };
  extend(search);
  return search.tries > MOST_TRIES && search.found < 2 ? null : search.found;
}

function extend(search) {
  if (search.found > 1 || (search.tries += 1) > MOST_TRIES) return;
  const [cell, digits] = tightest(search.cells);
  if (cell < 0) search.found += 1;
  for (const digit of digits) {
    search.cells[cell] = digit;
    extend(search);
    search.cells[cell] = 0;
  }
}

/**
 * The blank with the fewest possible digits, and these; -1 when the board is full.
 * @returns {[number, number[]]}
 */
function tightest(cells) {
  let best = -1, fewest = null;
  for (let cell = 0; cell < 81; cell++) {
    if (cells[cell]) continue;
    let used = 0;
    for (const peer of PEERS[cell]) used |= 1 << cells[peer];
    const digits = [1, 2, 3, 4, 5, 6, 7, 8, 9].filter((digit) => !(used & (1 << digit)));
    if (fewest === null || digits.length < fewest.length) [best, fewest] = [cell, digits];
    if (fewest.length < 2) break;
  }
  return [best, fewest ?? []];
}

/** For each of the 81 cells the canvas position that writes it: from the answer where there is one, else one token a cell. */
export function positionsOf(timeline, frame) {
  const commit = timeline.commits.find((one) => one.canvas === frame.canvas);
  const positions = [];
  commit?.tokens.forEach((text, position) => {
    for (const character of text) if (/[0-9]/.test(character)) positions.push(position);
  });
  const usual = positions.length !== 81;
  return Array.from({ length: 81 }, (_, cell) => (usual ? cell + Math.floor(cell / 9) : positions[cell]));
}
