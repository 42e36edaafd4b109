/** Chat: a conversation whose answers settle out of noise in their bubbles, and then are ordinary text. */

import { conversationBody, readBoard, watch } from "../api.js";
import { answerPattern } from "../board.js";
import { CanvasView } from "../canvas.js";
import { Options, Runner, action, examples, field, fileButton, fill, fitting, growing } from "../form.js";
import { markdown } from "../markdown.js";
import { Player } from "../player.js";
import { slowed } from "../slow.js";
import { Stage } from "../stage.js";
import { Timeline } from "../timeline.js";
import { copy, count, dataUrl, el, seconds, still } from "../util.js";

const PROMPTS = [
  ["Find facts", "Answer with JSON of this shape: {\"name\": string, \"to\": string, \"fare\": number or null, \"time\": string or null}\n\nAnna Berg travels from Oslo to Lisbon. It leaves at 14:30. The ticket costs $120.", "extraction"],
  ["Mend a text", "Rewrite in the past tense.\n\nAfter lunch, Anna will paint a picture in the garden.", "repair"],
  ["Ask", "Tell me the color of an emerald.", "answers"],
  ["Sudoku", "5 3 _  _ 7 _  _ _ _\n6 _ _  1 9 5  _ _ _\n_ 9 8  _ _ _  _ 6 _\n8 _ _  _ 6 _  _ _ 3\n4 _ _  8 _ 3  _ _ 1\n7 _ _  _ 2 _  _ _ 6\n_ 6 _  _ _ _  2 8 _\n_ _ _  4 1 9  _ _ 5\n_ _ _  _ 8 _  _ 7 9", "sudoku"],
];
const QUICK = { frames: 12, seconds: 0.1 }; // how an answer that came at once is shown settling

export class ChatView {
  #turns = []; // {said, images, answer, node}
  #images = [];

  constructor(info) {
    this.info = info;
    this.thread = el("ol", { class: "thread", "aria-label": "Conversation" });
    this.area = growing(el("textarea", { rows: 1, placeholder: "Write a message", onkeydown: (event) => this.#key(event) }));
    this.think = el("input", { type: "checkbox", id: "chat-think" });
    this.pictures = el("div", { class: "attached" });
    this.status = el("p", { class: "status", role: "status" });
    this.options = new Options(info);
    this.runner = new Runner("Send", (signal) => this.#send(signal), (message) => (this.status.textContent = message));
    const attach = info?.images && fileButton("Add an image", "image/*", (file) => this.#attach(file));
    const thinks = !info?.skills?.length;
    const said = info?.about;
    this.empty = el("div", { class: "chat-empty" },
      el("h2", {}, "Ask, and watch the answer settle"), said && el("p", { class: "hint" }, said),
      said && el("p", { class: "hint" }, "It answers each message by itself: it was not taught to converse."),
      examples(fitting(info, PROMPTS).map(([name, text]) => [name, text]), (text) => (fill(this.area, text), this.area.focus())));
    this.form = el("form", { class: "card composer", onsubmit: (event) => this.#submit(event) },
      this.pictures, field("Message", this.area, { wide: true }),
      el("div", { class: "row" }, el("div", { class: "actions" }, attach,
        thinks && el("span", { class: "field check" }, this.think, el("label", { for: this.think.id }, "Think first")),
        this.clearButton = action("New conversation", () => this.#clear())), this.runner.button),
      this.runner.alert, this.status, this.options.root);
    this.root = el("section", { class: "view chat", "aria-label": "Chat" }, this.empty, this.thread, this.form);
    this.clearButton.hidden = true;
  }

  #submit(event) {
    if (this.runner.running || this.area.value.trim()) return this.runner.toggle(event);
    event.preventDefault();
    this.area.focus();
  }

  /** Enter sends, with Shift it breaks the line. */
  #key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.form.requestSubmit();
  }

  async #attach(file) {
    this.#images.push(await dataUrl(file));
    this.#drawAttached();
  }

  #drawAttached() {
    this.pictures.replaceChildren(...this.#images.map((address, i) => el("button", { type: "button", class: "thumb", "aria-label": `Remove image ${i + 1}`, title: "Remove", onclick: () => {
      this.#images.splice(i, 1);
      this.#drawAttached();
    } }, el("img", { src: address, alt: "" }))));
  }

  #clear() {
    this.#turns = [];
    this.thread.replaceChildren();
    this.empty.hidden = false;
    this.clearButton.hidden = true;
    this.status.textContent = "";
    this.area.focus();
  }

  async #send(signal) {
    const turn = { said: this.area.value.trim(), images: this.#images, answer: "" };
    this.#images = [];
    this.#drawAttached();
    fill(this.area, "");
    this.#turns.push(turn);
    await this.#answer(turn, signal);
  }

  /** What is sent: the whole conversation, or the last message to a model that was not taught to converse. */
  #messages() {
    const turns = this.info?.skills?.length ? this.#turns.slice(-1) : this.#turns;
    return turns.flatMap(({ said, images, answer }, i) => {
      const text = { type: "text", text: said };
      const parts = images.map((url) => ({ type: "image_url", image_url: { url } }));
      const asked = { role: "user", content: parts.length ? [...parts, text] : said };
      return i < turns.length - 1 ? [asked, { role: "assistant", content: answer }] : [asked];
    });
  }

  async #answer(turn, signal) {
    this.empty.hidden = true;
    this.clearButton.hidden = false;
    const bubble = new Bubble(() => this.#again(turn));
    turn.node?.remove();
    turn.node = el("li", { class: "turn" }, this.#asked(turn), bubble.root);
    this.thread.append(turn.node);
    turn.node.scrollIntoView({ block: "end" });
    this.status.textContent = "Answering…";
    const { diffusion, ...options } = this.options.values();
    const messages = this.#messages();
    const timeline = new Timeline();
    try {
      const form = await this.#form(turn, messages);
      const body = conversationBody(messages, { ...options, diffusion: { ...diffusion, ...form, think: this.think.checked || undefined } });
      bubble.open(timeline);
      await watch("/v1/chat/completions", body, { signal, timeline, onEvent: () => bubble.grown() });
      turn.answer = timeline.finalText;
      this.status.textContent = "";
    } catch (error) {
      if (!timeline.moments.length) turn.node.classList.add("failed");
      throw error;
    } finally {
      await bubble.close();
      turn.node.scrollIntoView({ block: "nearest" });
    }
  }

  /** A sudoku goes out as the model was taught it, its givens held. */
  async #form(turn, messages) {
    if (!this.info?.skills?.includes("sudoku") || turn.images.length) return {};
    const { board, prompt } = await readBoard(turn.said, true);
    if (!board) return {};
    messages.at(-1).content = prompt;
    return { regex: answerPattern(board) };
  }

  #asked(turn) {
    return el("div", { class: "bubble user" },
      turn.images.map((address) => el("img", { src: address, alt: "An image of yours" })), el("p", { class: "said" }, turn.said),
      el("div", { class: "bubble-actions" }, action("Edit", () => this.#edit(turn)), action("Send again", () => this.#again(turn))));
  }

  /** Back to before this turn, with its text in the field. */
  #edit(turn) {
    this.#forget(turn);
    fill(this.area, turn.said);
    this.#images = turn.images;
    this.#drawAttached();
    this.area.focus();
  }

  #again(turn) {
    this.#edit(turn);
    this.form.requestSubmit();
  }

  #forget(turn) {
    const at = this.#turns.indexOf(turn);
    for (const gone of this.#turns.splice(at)) gone.node?.remove();
    this.empty.hidden = this.#turns.length > 0;
  }
}

/** One answer: a canvas while it settles, then text, and its steps for who wants to look. */
class Bubble {
  #timeline = null;

  constructor(onAgain) {
    this.canvas = new CanvasView({ label: "The answer, settling" });
    this.player = new Player({ onMoment: (moment) => this.canvas.draw(this.#timeline, moment) });
    this.thought = el("details", { class: "thought", hidden: true }, el("summary", {}, "Thoughts"), this.thinking = el("div", {}));
    this.text = el("div", { class: "answer" });
    this.took = el("span", { class: "hint" });
    this.details = el("div", { class: "inside" });
    this.lookButton = action("How it settled", () => this.#look());
    this.lookButton.setAttribute("aria-expanded", "false");
    this.actions = el("div", { class: "bubble-actions", hidden: true }, this.took, this.lookButton,
      action("Copy", () => this.#copy()), action("Again", onAgain, "Another answer to the same message"));
    this.root = el("div", { class: "bubble reply" }, this.thought, this.canvas.root, this.text, this.actions, this.details);
  }

  open(timeline) {
    this.#timeline = timeline;
    this.player.load(timeline, { live: true });
  }

  grown() {
    this.player.grown(true);
  }

  /** Let what is still to be seen be seen, then show the text. */
  async close() {
    const timeline = this.#timeline;
    if (!timeline?.moments.length) return this.root.remove();
    this.player.pause();
    if (!still() && timeline.done) await this.#settle(slowed(timeline, QUICK));
    this.canvas.root.hidden = true;
    this.text.replaceChildren(...markdown(timeline.finalText.trim() || "(an empty answer)"), ...timeline.calls.map(callBlock));
    if (timeline.thinking) {
      this.thinking.replaceChildren(...markdown(timeline.thinking));
      this.thought.hidden = false;
    }
    const how = timeline.isAutoregressive ? "token by token" : count(timeline.steps, "step");
    const cut = timeline.done?.finish_reason === "length" ? ", cut at its length limit" : timeline.done ? "" : ", stopped";
    this.took.textContent = `${how}, ${seconds(timeline.done?.seconds ?? timeline.moments.at(-1).seconds)}${cut}`;
    this.actions.hidden = false;
  }

  #settle(slow) {
    return new Promise((resolve) => {
      const player = new Player({ onMoment: (moment) => {
        this.canvas.draw(this.#timeline, moment);
        if (moment === slow.moments.at(-1)) setTimeout(resolve, 250);
      } });
      this.canvas.clear();
      player.load(slow);
      if (slow.moments.length < 2) resolve();
    });
  }

  /** The stage of Watch, for this answer. */
  #look() {
    const open = !this.details.childElementCount;
    this.lookButton.setAttribute("aria-expanded", String(open));
    if (!open) return this.details.replaceChildren();
    const stage = new Stage();
    this.details.replaceChildren(stage.root);
    stage.load(this.#timeline, { playing: !still() });
  }

  async #copy() {
    await copy(this.#timeline.finalText);
    this.took.textContent = "Copied.";
  }
}

function callBlock({ function: called }) {
  return el("pre", { class: "block-code", tabindex: 0, "aria-label": "A call of a tool" }, `${called?.name ?? "tool"}(${called?.arguments ?? ""})`);
}
