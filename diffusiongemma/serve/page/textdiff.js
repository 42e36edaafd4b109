/** What an edit changed, in words: pieces that stay and changes that can be accepted or rejected one by one. */

const WORD = /\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu;
const MOST_CELLS = 4_000_000; // of the table; larger texts are taken as one change

/** Pieces `{same}` and `{removed, added}`; joined by `same + removed` they give `before`, by `same + added` `after`. */
export function wordDiff(before, after) {
  const [a, b] = [before.match(WORD) ?? [], after.match(WORD) ?? []];
  let start = 0, end = 0;
  while (start < Math.min(a.length, b.length) && a[start] === b[start]) start++;
  while (end < Math.min(a.length, b.length) - start && a.at(-1 - end) === b.at(-1 - end)) end++;
  const middle = aligned(a.slice(start, a.length - end), b.slice(start, b.length - end));
  const pieces = [[0, a.slice(0, start)], ...middle.map(([kind, word]) => [kind, [word]]), [0, a.slice(a.length - end)]];
  return joined(pieces.flatMap(([kind, words]) => words.map((word) => [kind, word])));
}

/** Longest common subsequence: `[kind, word]` with kind 0 kept, -1 removed, 1 added. */
function aligned(a, b) {
  if (a.length * b.length > MOST_CELLS) return [...a.map((word) => [-1, word]), ...b.map((word) => [1, word])];
  const width = b.length + 1;
  const table = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      const skip = Math.max(table[(i + 1) * width + j], table[i * width + j + 1]);
      table[i * width + j] = a[i] === b[j] ? table[(i + 1) * width + j + 1] + 1 : skip;
    }
  }
  const steps = [];
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) steps.push([0, a[i++]]), j++;
    else if (j >= b.length || (i < a.length && table[(i + 1) * width + j] >= table[i * width + j + 1])) steps.push([-1, a[i++]]);
    else steps.push([1, b[j++]]);
  }
  return steps;
}

/** Runs of equal kind as pieces; changes with nothing but space between them are one change. */
function joined(steps) {
  const pieces = [];
  steps.forEach(([kind, word], at) => {
    const last = pieces.at(-1);
    const between = kind === 0 && last && "added" in last && /^\s+$/.test(word) && steps[at + 1]?.[0];
    if (kind === 0 && !between) {
      if (last && "same" in last) last.same += word;
      else pieces.push({ same: word });
      return;
    }
    if (!last || "same" in last) pieces.push({ removed: "", added: "" });
    if (kind <= 0) pieces.at(-1).removed += word;
    if (kind >= 0) pieces.at(-1).added += word;
  });
  return pieces;
}

/** The text with decided changes: `decide(index)` says whether change number `index` is taken. */
export function applied(pieces, decide) {
  let index = 0;
  return pieces.map((piece) => ("same" in piece ? piece.same : decide(index++) ? piece.added : piece.removed)).join("");
}

/** JavaScript counts UTF-16 units, the server characters. */
export function characterOffset(text, offset) {
  return Array.from(text.slice(0, offset)).length;
}
