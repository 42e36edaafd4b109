/** A generation as a list of moments: what was watched, to be played in either direction. */

import { CanvasDecoder, ServerError } from "./protocol.js";

/** The canvas before its first step: nothing was computed for it. */
export function isNoise(frame) {
  return frame.step === 0;
}

export const NOISE = "n", NEW = "a", DRAFT = "d", PINNED = "p", SENT = "s";

// Where a server or trace does not name them: what the released and the embedded models end an answer with.
const USUAL_ENDS = ["<eos>", "<turn|>"];

/**
 * Moments are denoise steps (`frame`) and commits (`commit`). Each also says how much was committed by then
 * (`commits`, a count), the forward passes so far and the seconds since the start.
 */
export class Timeline {
  start = {};
  request = null;
  events = [];
  moments = [];
  commits = [];
  done = null;
  text = "";
  thinking = "";
  calls = [];
  #decoder = new CanvasDecoder();
  #frames = new Map(); // canvas -> its newest frame
  #clock = { passes: 0, seconds: 0 };

  /** A kept trace: `{v, start, events, request?, text?}`. Raises `ServerError` for an object of another form. */
  static fromTrace(trace) {
    if (trace?.v !== 1 || !Array.isArray(trace.events)) {
      throw new ServerError("This is not a trace: open a file that Watch saved or that run --trace wrote.");
    }
    const timeline = new Timeline();
    timeline.start = trace.start ?? {};
    timeline.request = trace.request ?? null;
    for (const [name, data] of trace.events) timeline.add(name, data);
    if (typeof trace.text === "string") timeline.text = trace.text;
    return timeline;
  }

  toTrace() {
    const { start, request, events, text } = this;
    return { v: 1, start, ...(request ? { request } : {}), events, text };
  }

  /** Take in one event; `seconds` since the request began, where that is known. Events of further choices are left out. */
  add(name, data, seconds = undefined) {
    if (name === "start") this.start = data;
    if (name === "start" || (data.n ?? 0) !== 0) return;
    if (name === "canvas") this.#addFrame(data);
    else if (name === "commit") this.#addCommit(data, seconds);
    else if (name === "done") this.#finish(data);
    else return;
    this.events.push([name, data]);
  }

  #addFrame(data) {
    const frame = this.#decoder.frame(data);
    const opens = !this.#frames.has(frame.canvas) && frame.canvas > 0; // a later canvas waits for one encode
    this.#frames.set(frame.canvas, frame);
    this.#clock.passes += (opens ? 1 : 0) + (isNoise(frame) ? 0 : 1);
    this.#clock.seconds += (frame.ms ?? 0) / 1000;
    this.moments.push({ frame, commit: null, commits: this.commits.length, ...this.#clock });
  }

  #addCommit(commit, seconds) {
    // Token by token, or what the encoder wrote in place of a canvas's tokens.
    this.#clock.passes += this.#frames.size ? (commit.written ?? 0) : commit.tokens.length;
    if (!this.#frames.size && seconds !== undefined) this.#clock.seconds = seconds;
    this.commits.push(commit);
    this.moments.push({ frame: null, commit, commits: this.commits.length, ...this.#clock });
  }

  #finish(done) {
    this.done = done;
    const last = this.moments.at(-1);
    if (last) last.passes = done.forward_passes ?? last.passes;
    const total = last?.seconds;
    // The clock is the server's: what the client measured, or the steps added up, is stretched to its figure.
    for (const [i, moment] of this.moments.entries()) {
      const share = total > 0 ? moment.seconds / total : (i + 1) / this.moments.length;
      moment.seconds = share * (done.seconds ?? total ?? 0);
    }
  }

  get isAutoregressive() {
    return this.start.mode === "ar" || (this.commits.length > 0 && this.#frames.size === 0);
  }

  /** Denoise steps that were taken. */
  get steps() {
    return this.moments.filter((moment) => moment.frame && !isNoise(moment.frame)).length;
  }

  get canvases() {
    return this.#frames.size;
  }

  isEnd(token) {
    return (this.start.end_tokens ?? USUAL_ENDS).includes(token);
  }

  /** Committed tokens up to a moment, without the token that ended the answer; `{token, commit, position}` each. */
  committedAt(moment) {
    const all = this.commits.slice(0, moment.commits);
    const cells = all.flatMap((commit) => commit.tokens.map((token, position) => ({ token, commit, position })));
    return cells.filter(({ token }) => !this.isEnd(token));
  }

  /** The tokens that lay out a canvas: its end where that is known, else what the reply would be now. */
  shapeOf(canvas) {
    const commit = this.#frames.has(canvas) && this.commits.find((one) => one.canvas === canvas);
    const frame = this.#frames.get(canvas);
    if (!frame) return [];
    const likely = frame.tokens.map((token, i) => (frame.state[i] === NOISE ? frame.drafts[i] : token));
    return this.#cut(commit ? commit.tokens : likely, frame.width);
  }

  /** `tokens` padded with null from the end of the answer on. */
  #cut(tokens, width) {
    const end = tokens.findIndex((token) => this.isEnd(token));
    const kept = end < 0 ? tokens : tokens.slice(0, end);
    return Array.from({ length: Math.max(width, kept.length) }, (_, i) => kept[i] ?? null);
  }

  /** The most probable text as of a moment: everything committed and the present canvas's drafts. */
  draftAt(moment) {
    const before = this.committedAt(moment).map(({ token }) => token);
    const draft = moment.frame ? this.#cut(moment.frame.drafts, moment.frame.width).filter((token) => token !== null) : [];
    return [...before, ...draft].join("");
  }

  framesOf(canvas) {
    return this.moments.filter((moment) => moment.frame?.canvas === canvas).map((moment) => moment.frame);
  }

  /** The finished text. Tokens that share one character are only whole in the text the server sent. */
  get finalText() {
    return this.text || (this.moments.length ? this.draftAt({ commits: this.commits.length, frame: null }) : "");
  }
}
