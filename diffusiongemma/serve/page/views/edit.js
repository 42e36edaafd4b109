/** Edit: fill a selection or change a text by instruction, and take or leave each change. */

import { watchPlan } from "../api.js";
import { Runner, choice, examples, field, fill, growing, number } from "../form.js";
import { RubSurface } from "../rub.js";
import { Stage } from "../stage.js";
import { applied, characterOffset, wordDiff } from "../textdiff.js";
import { Timeline } from "../timeline.js";
import { count, decimal, el, visible } from "../util.js";

const EXAMPLES = [
  ["Past tense", "After lunch, Anna will paint a picture in the garden.", "Rewrite in the past tense."],
  ["Spelling", "Tom walkd to the libary becuase he wanted a bok.", "Correct the spelling."],
  ["Capitals", "the fox lived near the river. it wanted to swim.", "Fix the capital letters."],
];
const TEXT = EXAMPLES[0][1];

export class EditView {
  #undo = [];
  #proposal = null;

  constructor() {
    this.area = growing(el("textarea", { rows: 4, value: TEXT, spellcheck: "false", oninput: () => (this.#propose(null), this.rub.show(this.area.value)) }));
    this.rub = new RubSurface((spans) => this.#heal(spans));
    for (const name of ["select", "keyup", "mouseup", "touchend"]) this.area.addEventListener(name, () => this.#showSelection());
    this.selection = el("p", { class: "hint", "aria-live": "polite" });
    this.kind = choice([["infill", "Fill in the selection"], ["edit", "Change by instruction"]], "edit", { onchange: () => this.#showKind() });
    this.instruction = el("input", { type: "text", placeholder: "Rewrite in the past tense.", value: EXAMPLES[0][2] });
    this.strength = el("input", { type: "range", min: 0.05, max: 1, step: 0.05, value: 0.5, oninput: () => this.#showKind() });
    this.strengthField = field("Strength", this.strength, { hint: "50 %" });
    this.seed = number({ min: 0, step: 1, placeholder: "random" });
    this.status = el("p", { class: "status", role: "status" });
    this.stage = new Stage({ compact: true });
    this.stage.root.hidden = true;
    this.review = el("section", { class: "review", "aria-label": "Changes", hidden: true });
    this.undoButton = el("button", { type: "button", class: "quiet", disabled: true, onclick: () => this.#goBack() }, "Undo");
    this.runner = new Runner("Rewrite", (signal) => this.#run(signal), (...message) => this.#say(...message));
    const form = el("form", { class: "card ask", onsubmit: (event) => this.runner.toggle(event) },
      field("Text", this.area, { wide: true }), this.selection,
      examples(EXAMPLES, (text, instruction) => this.#use(text, instruction)),
      el("div", { class: "fields" }, field("What to do", this.kind), this.instructionField = field("Instruction", this.instruction), this.strengthField, field("Seed", this.seed)),
      el("div", { class: "row" }, this.undoButton, this.runner.button), this.runner.alert);
    this.root = el("section", { class: "view", "aria-label": "Edit" }, form, this.rub.root, this.status, this.review, this.stage.root);
    this.form = form;
    this.rub.show(TEXT);
    this.#showKind();
    this.#showSelection();
  }

  get #span() {
    const { selectionStart: from, selectionEnd: to } = this.area;
    return from < to ? [from, to] : null;
  }

  /** An example: its text and what is to be done with it. */
  #use(text, instruction) {
    fill(this.area, text);
    this.kind.value = "edit";
    this.instruction.value = instruction;
    this.#showKind();
    this.area.setSelectionRange(0, 0);
    this.form.requestSubmit();
  }

  /** Words that were rubbed out are written anew, the others stay. */
  #heal(spans) {
    this.healing = spans;
    this.form.requestSubmit();
  }

  #showSelection() {
    const span = this.#span;
    const text = span ? this.area.value.slice(...span) : "";
    const shown = text.length > 60 ? `${text.slice(0, 57)}…` : text;
    const none = this.kind.value === "infill" ? "Nothing selected: new text goes in at the cursor." : "Nothing selected: the whole text may change.";
    this.selection.textContent = span ? `Selected: “${visible(shown)}” (${count(text.length, "character")})` : none;
  }

  #showKind() {
    this.strengthField.hidden = this.kind.value === "infill";
    this.strengthField.querySelector(".hint").textContent = `${Math.round(100 * this.strength.value)} % of the text starts as noise`;
    this.rub.preview(this.kind.value === "edit" ? Number(this.strength.value) : 0);
    this.#showSelection();
  }

  async #run(signal) {
    this.#propose(null);
    this.#say("Working…");
    const [before, selected] = [this.area.value, this.#span];
    const seed = this.seed.value.trim() === "" ? {} : { seed: Number(this.seed.value) };
    const healing = this.healing;
    this.healing = null;
    const answer = healing ? await this.#watch("/v1/edits", { input: before, spans: healing, strength: 1, ...seed }, signal, true).finally(() => this.rub.show(this.area.value))
      : this.kind.value === "infill" ? await this.#infill(before, seed, signal) : await this.#edit(before, seed, signal);
    const passes = answer.diffusion?.forward_passes;
    const cost = passes ? ` ${count(passes, "forward pass").replace("passs", "passes")}.` : "";
    if (answer.text === before) return this.#say(`The text came back unchanged.${cost}`);
    this.#propose(wordDiff(before, answer.text));
    const where = selected ? "the words outside the selection" : "the words";
    const outside = answer.changed_outside > 0 ? ` ${decimal(100 * answer.changed_outside)} % of ${where} changed.` : "";
    this.#say(`${count(this.#proposal.taken.length, "change")} to review.${cost}${outside}`);
  }

  #infill(text, seed, signal) {
    const { selectionStart: from, selectionEnd: to } = this.area;
    const instruction = this.instruction.value.trim();
    const body = { prefix: text.slice(0, from), suffix: text.slice(to), length: "auto", ...(instruction ? { instruction } : {}), ...seed };
    return this.#watch("/v1/infill", body, signal);
  }

  #edit(text, seed, signal) {
    const instruction = this.instruction.value.trim();
    if (!instruction) throw new Error("Say in the instruction what should change.");
    const spans = this.#span ? { spans: [this.#span.map((offset) => characterOffset(text, offset))] } : {};
    return this.#watch("/v1/edits", { input: text, instruction, strength: Number(this.strength.value), ...spans, ...seed }, signal, true);
  }

  /** Show the canvases while they settle: of an infill's candidates the one at work, of an edit one piece after the other. */
  async #watch(path, body, signal, joined = false) {
    let timeline = null, turn = null, before = 0;
    const onEvent = (name, event) => {
      if (event.turn !== turn && joined && timeline) before = timeline.canvases;
      else if (event.turn !== turn) this.stage.load((timeline = new Timeline()), { live: true });
      turn = event.turn;
      timeline.add(name, { ...event, canvas: before + event.canvas });
      this.stage.grown(true);
    };
    this.stage.root.hidden = false;
    try {
      return await watchPlan(path, body, { signal, onEvent });
    } finally {
      if (timeline) this.stage.grown(false);
      else this.stage.root.hidden = true;
    }
  }

  // --- review: every change waits for a yes or a no; the text area always shows what is accepted so far

  #propose(pieces) {
    const changes = pieces?.filter((piece) => "added" in piece).length ?? 0;
    this.#proposal = pieces && { pieces, before: this.area.value, taken: Array(changes).fill(null) };
    this.#drawReview();
  }

  #decide(index, yes) {
    const { pieces, taken, before } = this.#proposal;
    if (taken.every((one) => one !== true) && yes) this.#remember(before);
    taken[index] = yes;
    this.area.value = applied(pieces, (change) => taken[change] === true);
    this.rub.show(this.area.value);
    this.#afterDecision(index);
  }

  #decideAll(yes) {
    this.#proposal.taken.forEach((one, index) => one === null && this.#decide(index, yes));
  }

  #afterDecision(index) {
    if (!this.#proposal) return;
    const { taken } = this.#proposal;
    const open = taken.filter((one) => one === null).length;
    if (open) {
      this.#drawReview();
      const next = [...taken.keys()].find((at) => at > index && taken[at] === null) ?? taken.indexOf(null);
      this.review.querySelector(`[data-change="${next}"] button`)?.focus();
      return this.#say(`${count(open, "change")} left.`);
    }
    const accepted = taken.filter(Boolean).length;
    this.#propose(null);
    this.area.focus();
    this.#say(`Done: ${accepted} of ${count(taken.length, "change")} accepted. The next edit starts from this text.`);
  }

  #drawReview() {
    this.review.hidden = !this.#proposal;
    if (!this.#proposal) return this.review.replaceChildren();
    let index = 0;
    const pieces = this.#proposal.pieces.map((piece) => ("same" in piece ? piece.same : this.#change(piece, index++)));
    const all = (label, yes, kind) => el("button", { type: "button", class: kind, onclick: () => this.#decideAll(yes) }, label);
    this.review.replaceChildren(
      el("div", { class: "row" }, el("p", { class: "hint" }, "On a change: A accepts, R rejects."), el("div", { class: "actions" }, all("Reject all", false, "quiet"), all("Accept all", true, "primary"))),
      el("div", { class: "diff" }, pieces));
  }

  #change({ removed, added }, index) {
    const taken = this.#proposal.taken[index];
    if (taken !== null) return el("span", { class: "decided" }, taken ? added : removed);
    const name = `change ${index + 1}: “${visible(removed)}” becomes “${visible(added)}”`;
    const button = (sign, verb, yes) => el("button", { type: "button", class: "decision", "aria-label": `${verb} ${name}`, title: verb, onclick: () => this.#decide(index, yes) }, sign);
    const keys = (event) => {
      const yes = { a: true, r: false }[event.key.toLowerCase()];
      if (yes === undefined || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      this.#decide(index, yes);
    };
    return el("span", { class: "change", "data-change": index, role: "group", "aria-label": name, onkeydown: keys },
      removed && el("del", {}, removed), added && el("ins", {}, added), button("✓", "Accept", true), button("✕", "Reject", false));
  }

  #remember(text) {
    this.#undo.push(text);
    this.undoButton.disabled = false;
  }

  #goBack() {
    this.area.value = this.#undo.pop();
    this.undoButton.disabled = !this.#undo.length;
    this.#propose(null);
    this.#say("The text is as it was before.");
  }

  #say(message, isError = false) {
    this.status.textContent = message;
    this.status.classList.toggle("error", isError);
  }
}
