/** The server's streaming protocol (docs/protocol.md): server-sent events, and the decoding of canvas frames. */

/** Raised for an answer that is not 2xx; `message` is the server's own sentence. */
export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.name = "ServerError";
    this.status = status;
  }
}

/** Server-sent events out of a stream of bytes, as `[name, data]`; an event without a name is a "message". */
export async function* serverSentEvents(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    rest += value ?? "";
    const blocks = rest.split(/\r?\n\r?\n/);
    rest = done ? "" : blocks.pop();
    for (const block of blocks) {
      const event = parseEvent(block);
      if (event) yield event;
    }
    if (done) return;
  }
}

function parseEvent(block) {
  let name = "message";
  const data = [];
  for (const line of block.split(/\r?\n/)) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  return data.length ? [name, data.join("\n")] : null;
}

/** Positions of a list like "0-5,9,12-95". */
export function parsePositions(at) {
  const positions = [];
  for (const part of at ? at.split(",") : []) {
    const [first, last = first] = part.split("-").map(Number);
    for (let i = first; i <= last; i++) positions.push(i);
  }
  return positions;
}

/** The level of an entropy character, 0–35. */
export function parseLevel(character) {
  return parseInt(character, 36) || 0;
}

/** Nats of a level: the inverse of round(6·log2(1 + 8·nats)). */
export function nats(level) {
  return (2 ** (level / 6) - 1) / 8;
}

/** Turns the changes of successive `canvas` events back into whole canvases. */
export class CanvasDecoder {
  #canvas = -1;
  #tokens = [];
  #drafts = [];
  #state = "";

  /**
   * One event -> `{canvas, step, width, level, temperature, ms, tokens, drafts, state, lost, entropy}`, one entry per
   * position in each of the last five. `lost`: noise again where a token had been accepted in the step before.
   */
  frame(event) {
    if (event.canvas !== this.#canvas) [this.#canvas, this.#tokens, this.#drafts, this.#state] = [event.canvas, [], [], ""];
    const tokens = this.#tokens.slice(0, event.width);
    const drafts = this.#drafts.slice(0, event.width);
    parsePositions(event.at).forEach((position, i) => (tokens[position] = event.tokens[i]));
    // Unless `drafts` says otherwise, an accepted token is its position's most probable one, and noise leaves it as it was.
    tokens.forEach((token, position) => {
      if (event.state[position] !== "n") drafts[position] = token;
    });
    for (const [position, text] of Object.entries(event.drafts ?? {})) drafts[position] = text;
    const lost = Array.from(event.state, (now, i) => now === "n" && (this.#state[i] ?? "n") !== "n");
    [this.#tokens, this.#drafts, this.#state] = [tokens, drafts, event.state];
    const { canvas, step, width, level, temperature, ms, state } = event;
    const entropy = Uint8Array.from(event.entropy, parseLevel);
    return { canvas, step, width, level, temperature, ms, tokens, drafts, state, lost, entropy };
  }
}
