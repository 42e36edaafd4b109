/** Slow motion: each step of a canvas drawn in several strokes, the surest cells first, so that a fast model can be watched. */

const LEAST_FRAMES = 24;
const FRAME_SECONDS = 0.2;

/**
 * The moments of a timeline for a `Player`, the same steps in at least `frames` pictures. Between two steps nothing is invented: every
 * cell shows what stood there before the step or after it.
 */
export function slowed(timeline, { frames = LEAST_FRAMES, seconds = FRAME_SECONDS } = {}) {
  const steps = timeline.moments.filter((moment) => moment.frame).length;
  const each = Math.max(1, Math.ceil((frames - 1) / Math.max(1, steps - 1)));
  const moments = [];
  let before = null;
  for (const moment of timeline.moments) {
    const { frame } = moment;
    const whole = !frame || !before || before.canvas !== frame.canvas;
    for (const one of whole ? [frame] : strokes(before, frame, each)) moments.push({ ...moment, frame: one });
    before = frame;
  }
  moments.forEach((moment, i) => (moment.seconds = i * seconds));
  return { moments, isAutoregressive: timeline.isAutoregressive };
}

/** From one frame to the next in `count` pictures. */
function strokes(before, after, count) {
  const positions = Array.from(after.tokens.keys()).filter((i) => before.tokens[i] !== after.tokens[i] || before.state[i] !== after.state[i]);
  positions.sort((a, b) => after.entropy[a] - after.entropy[b] || mixed(a) - mixed(b));
  const frames = [];
  for (let stroke = 1; stroke < count; stroke++) {
    const drawn = new Set(positions.slice(0, Math.round((positions.length * stroke) / count)));
    const pick = (name) => Array.from(after[name], (value, i) => (drawn.has(i) || !positions.includes(i) ? value : before[name][i]));
    frames.push({ ...after, tokens: pick("tokens"), drafts: pick("drafts"), state: pick("state").join(""), lost: pick("lost"), entropy: Uint8Array.from(pick("entropy")) });
  }
  return [...frames, after];
}

/** The same order every time, without a pattern that the eye sees. */
function mixed(position) {
  return (position * 7919) % 97;
}
