/** Requests to the server that this page came from. */

import { ServerError, serverSentEvents } from "./protocol.js";
import { Timeline } from "./timeline.js";

const ALTERNATIVES = 5; // candidates told of each token

async function checked(response) {
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  throw new ServerError(inWords(response.status, body?.error?.message), response.status);
}

/** What the server's refusal means for somebody at this page. */
function inWords(status, said) {
  if (status === 401) return "This server wants an API key, and the one given is not among its keys. Reload the page to give another.";
  if (status === 429) return "The server is busy with other requests. Try again in a moment.";
  if (status === 503) return "The server is stopping or not ready yet. Try again in a moment.";
  if (status === 507) return "The server has no room for this: ask for fewer tokens, or a shorter text.";
  if (said) return `The server cannot do this: ${said}`;
  return `The server failed (${status}). Its log says why.`;
}

let key = null;
let model; // as /v1/info says; a request without one is for the model that there is

function headers(type) {
  key ??= sessionStorage.getItem("key");
  return { "Content-Type": type, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

/** The key that the server wants of its clients; kept for this tab only. */
export function setKey(value) {
  key = value || null;
  if (key) sessionStorage.setItem("key", key);
  else sessionStorage.removeItem("key");
}

/** Whether one was given, here or before the page was reloaded. */
export function hasKey() {
  return Boolean(key ?? sessionStorage.getItem("key"));
}

async function send(path, body, type, signal) {
  try {
    return await checked(await fetch(path, { method: "POST", headers: headers(type), body, signal }));
  } catch (error) {
    if (error instanceof TypeError) throw new ServerError("The server cannot be reached: is it still running?");
    throw error;
  }
}

export async function getInfo() {
  const info = await (await checked(await fetch("/v1/info", { headers: headers("application/json") }))).json();
  model = info.model;
  return info;
}

/** A trace file (bytes) -> the trace object that `Timeline.fromTrace` takes. */
export async function readTrace(bytes) {
  return (await send("/v1/traces", bytes, "application/octet-stream")).json();
}

/** A trace as an animated picture. */
export async function drawPicture({ start, events }, format = "gif") {
  return (await send("/v1/pictures", JSON.stringify({ start, events, format }), "application/json")).blob();
}

/**
 * The body of a chat completion that is watched.
 * @param {string} prompt
 * @param {any} [options]
 */
export function chatBody(prompt, { system = "", diffusion = {}, ...options } = {}) {
  return conversationBody([{ role: "user", content: prompt }], { system, diffusion, ...options });
}

/**
 * The same for a conversation.
 * @param {any[]} said
 * @param {any} [options]
 */
export function conversationBody(said, { system = "", diffusion = {}, ...options } = {}) {
  const messages = [...(system ? [{ role: "system", content: system }] : []), ...said];
  const frames = diffusion.mode === "ar" ? true : "noise";
  return { model, messages, stream: true, ...options, diffusion: { frames, details: true, alternatives: ALTERNATIVES, ...diffusion } };
}

/** The sudoku in a text, in any spelling: `{board, prompt, verdict}`, the board null where there is none. */
export async function readBoard(text, alone = false) {
  return (await send("/v1/boards", JSON.stringify({ text, alone }), "application/json")).json();
}

/** The events of a streamed request as `[name, value]`. Raises `ServerError`, also for an error in the middle of the stream. */
async function* streamed(path, body, signal) {
  const response = await send(path, JSON.stringify(body), "application/json", signal);
  for await (const [name, data] of serverSentEvents(response.body)) {
    if (data === "[DONE]") return;
    const value = JSON.parse(data);
    if (value.error) throw new ServerError(value.error.message);
    yield [name, value];
  }
}

const BROKEN_OFF = "The answer broke off: the server ended the stream early.";

/**
 * Run a streamed request into a `Timeline`; `onEvent(timeline)` is called after each event.
 * @param {string} path
 * @param {any} body
 * @param {{signal?: AbortSignal, onEvent?: (timeline: Timeline) => void, timeline?: Timeline}} [options]
 */
export async function watch(path, body, { signal, onEvent = () => {}, timeline = new Timeline() } = {}) {
  timeline.request = { path, body };
  const began = performance.now();
  for await (const [name, value] of streamed(path, body, signal)) {
    if (name === "message") take(timeline, value);
    else timeline.add(name, value, (performance.now() - began) / 1000);
    onEvent(timeline);
  }
  if (!timeline.done) throw new ServerError(BROKEN_OFF);
  return timeline;
}

/** Run an infill or edit; `onEvent(name, event)` hears of its drafts. Resolves to the answer. */
export async function watchPlan(path, body, { signal, onEvent }) {
  let answer = null;
  for await (const [name, value] of streamed(path, { ...body, stream: true, diffusion: { frames: true } }, signal)) {
    if (name === "message") answer = value;
    else onEvent(name, value);
  }
  if (!answer) throw new ServerError(BROKEN_OFF);
  return answer;
}

/** A chunk's text, thought and calls. */
function take(timeline, chunk) {
  const choice = (chunk.choices ?? []).find((one) => (one.index ?? 0) === 0);
  timeline.text += choice?.delta?.content ?? choice?.text ?? "";
  timeline.thinking += choice?.delta?.reasoning_content ?? "";
  timeline.calls.push(...(choice?.delta?.tool_calls ?? []));
}
