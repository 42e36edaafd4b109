/** A text whose words can be rubbed to noise with the pointer, to be written anew. */

import { action } from "./form.js";
import { characterOffset } from "./textdiff.js";
import { el } from "./util.js";

const WORD = /\S+/g;
const NOISE = "#%&*+?@$€§¤~^<>/|";

export class RubSurface {
  #text = "";
  #words = []; // {from, to, node, noised}
  #rubbing = false;

  /** `onRubbed(spans)` hears which characters were rubbed out, once the pointer is lifted. */
  constructor(onRubbed) {
    this.onRubbed = onRubbed;
    this.surface = el("p", { class: "rub" });
    this.surface.addEventListener("pointerdown", (event) => this.#begin(event));
    this.surface.addEventListener("pointermove", (event) => this.#rubbing && this.#rub(document.elementFromPoint(event.clientX, event.clientY)));
    for (const name of ["pointerup", "pointercancel"]) this.surface.addEventListener(name, () => this.#end());
    this.healButton = action("Write the marked words anew", () => this.#heal());
    this.healButton.disabled = true;
    this.root = el("section", { class: "card ask", "aria-label": "Rub out" },
      el("p", { class: "hint" }, "Rub over words to turn them into noise, and watch them being written anew. With the keyboard: Tab to a word, Enter marks it."), this.surface, this.healButton);
  }

  show(text) {
    this.#text = text;
    this.#words = [];
    const nodes = [];
    let at = 0;
    for (const found of text.matchAll(WORD)) {
      const node = el("button", { type: "button", class: "rubbable", onkeydown: (event) => event.key === "Enter" && (event.preventDefault(), this.#rub(node)) }, found[0]);
      nodes.push(text.slice(at, found.index), node);
      at = found.index + found[0].length;
      this.#words.push({ from: found.index, to: at, node, noised: false });
    }
    this.surface.replaceChildren(...nodes, text.slice(at));
    this.healButton.disabled = true;
  }

  /** What share of the text would begin as noise: so many words look like it. */
  preview(share) {
    this.#words.forEach((word, i) => {
      const hit = share > 0 && ((i * 7919 + 31) % 100) / 100 < share;
      word.node.classList.toggle("would", hit && !word.noised);
    });
  }

  #begin(event) {
    this.#rubbing = true;
    this.surface.setPointerCapture(event.pointerId);
    this.#rub(document.elementFromPoint(event.clientX, event.clientY));
    event.preventDefault();
  }

  #rub(node) {
    const word = this.#words.find((one) => one.node === node);
    if (!word || word.noised) return;
    word.noised = true;
    word.node.classList.add("noised");
    word.node.setAttribute("aria-pressed", "true");
    word.node.textContent = Array.from({ length: word.to - word.from }, (_, i) => NOISE[(word.from * 31 + i * 7) % NOISE.length]).join("");
    this.healButton.disabled = false;
  }

  #end() {
    if (!this.#rubbing) return;
    this.#rubbing = false;
    this.#heal();
  }

  /** Neighbouring words go as one span. */
  #heal() {
    const spans = [];
    for (const { from, to } of this.#words.filter((word) => word.noised)) {
      const last = spans.at(-1);
      if (last && /^\s*$/.test(this.#text.slice(last[1], from))) last[1] = to;
      else spans.push([from, to]);
    }
    if (spans.length) this.onRubbed(spans.map((span) => span.map((offset) => characterOffset(this.#text, offset))));
  }
}
