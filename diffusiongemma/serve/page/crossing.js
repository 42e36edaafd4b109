/** From how many tokens on diffusion is the faster way on this machine: in words and as a small chart. */

import { count, decimal, el, seconds, svg } from "./util.js";

const HEIGHT = 210, LEFT = 70, BOTTOM = 36, TOP = 16, RIGHT = 14;

/** Tokens at which both ways take equally long: steps · step_ms = tokens · token_ms. */
export function crossingPoint({ steps, step_ms, token_ms }) {
  return (steps * step_ms) / token_ms;
}

/** The sentence for a canvas of `length` tokens. */
export function crossingSentence(machine, length) {
  const tokens = crossingPoint(machine);
  const costs = `One step takes ${decimal(machine.step_ms)} ms, one token ${decimal(machine.token_ms)} ms, and a canvas about ${count(Math.round(machine.steps), "step")}.`;
  if (tokens > length) {
    return `Autoregressive is faster here at every length: the crossing point, ${Math.round(tokens)} tokens, lies beyond the canvas of ${length}. ${costs}`;
  }
  return `The crossing point of this machine is at ${Math.max(1, Math.ceil(tokens))} tokens: longer replies are faster by diffusion, shorter ones autoregressive. ${costs}`;
}

/** `measured`: `{diffusion: {tokens, seconds}, ar: {…}}` of the race just run, drawn as points. `width` in pixels: words keep their size. */
export function crossingChart(machine, length, measured, width) {
  const flat = (machine.steps * machine.step_ms) / 1000, slope = machine.token_ms / 1000;
  const points = Object.values(measured);
  const most = Math.max(length, ...points.map((point) => point.tokens));
  const top = 1.1 * Math.max(flat, slope * most, ...points.map((point) => point.seconds));
  const x = (tokens) => LEFT + ((width - LEFT - RIGHT) * tokens) / most;
  const y = (time) => HEIGHT - BOTTOM - ((HEIGHT - BOTTOM - TOP) * time) / top;
  const line = (name, from, to) => svg("line", { class: `line ${name}`, x1: x(0), y1: y(from), x2: x(most), y2: y(to) });
  const dots = Object.entries(measured).map(([name, point]) => dot(name, x(point.tokens), y(point.seconds)));
  const words = (text, left, height, anchor) => svg("text", { x: left, y: height, "text-anchor": anchor }, text);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": crossingSentence(machine, length) },
    svg("line", { class: "axis", x1: x(0), y1: y(0), x2: x(most), y2: y(0) }),
    line("diffusion", flat, flat), line("ar", 0, slope * most), dots,
    words("tokens of the reply →", (x(0) + x(most)) / 2, HEIGHT - 2, "middle"), words("time ↑", 4, TOP + 2, "start"),
    words("0", x(0), HEIGHT - 12, "middle"), words(`${most} tokens`, x(most), HEIGHT - 12, "end"),
    words(seconds(top / 1.1), LEFT - 6, y(top / 1.1) + 4, "end"), words("0", LEFT - 6, y(0) + 4, "end"),
    words("one canvas by diffusion", x(0) + 8, y(flat) - 6, "start"),
    words("autoregressive", x(most), Math.max(12, y(slope * most) - 8), "end"));
  return el("figure", { class: "crossing" }, picture, el("figcaption", {}, "Time for a reply of so many tokens, as measured by auto. Points: this race."));
}

/** A circle for diffusion, a square for autoregressive: told apart without colour. */
function dot(name, x, y) {
  if (name === "diffusion") return svg("circle", { class: `dot ${name}`, cx: x, cy: y, r: 5 });
  return svg("rect", { class: `dot ${name}`, x: x - 4.5, y: y - 4.5, width: 9, height: 9 });
}
