/** Forms: labelled fields, the options of a generation, and the run button that becomes a stop button. */

import { el } from "./util.js";

let serial = 0;

/** A field with its label; `attributes.hint` is said below it. */
export function field(label, control, { hint = "", wide = false } = {}) {
  control.id ||= `field-${(serial += 1)}`;
  const about = hint ? el("span", { class: "hint", id: `${control.id}-hint` }, hint) : null;
  if (about) control.setAttribute("aria-describedby", about.id);
  return el("div", { class: wide ? "field wide" : "field" }, el("label", { for: control.id }, label), control, about);
}

export function choice(names, value, attributes = {}) {
  return el("select", attributes, names.map((name) => {
    const [key, text] = Array.isArray(name) ? name : [name, name];
    return el("option", { value: key, selected: key === value }, text);
  }));
}

export function number(attributes) {
  return el("input", { type: "number", inputmode: "decimal", ...attributes });
}

const CHECKED = [["never", "none"], ["unconverged", "unsure"], ["always", "all"]];
const SAMPLERS = ["entropy_bound", "confidence", "fixed_k", "ancestral"];

/** Seed, steps, sampler, temperature, length, checked canvases, early text, system prompt; empty fields keep the model's defaults. */
export class Options {
  constructor(info, { closed = true } = {}) {
    const defaults = info?.defaults ?? {};
    const hint = (value) => (value === undefined || value === null ? "default" : String(value));
    this.seed = number({ min: 0, step: 1, placeholder: "random" });
    this.steps = number({ min: 1, step: 1, placeholder: hint(defaults.steps) });
    this.temperature = number({ min: 0, max: 2, step: "any", placeholder: "as trained" });
    this.tokens = number({ min: 1, step: 1, placeholder: hint(defaults.max_tokens) });
    this.sampler = choice([["", "default"], ...samplerNames(info)], "");
    this.verify = choice([["", "default"], ...CHECKED], "", { title: "The encoder writes on from the first token that it would not have written" });
    this.early = el("input", { type: "checkbox", title: "Send the stable start before the canvas is done" });
    this.system = el("textarea", { rows: 2, placeholder: "none" });
    const row = el("div", { class: "fields" },
      field("Seed", this.seed), field("Steps per canvas", this.steps), field("Sampler", this.sampler),
      field("Temperature", this.temperature), field("Most tokens", this.tokens), field("Checked canvases", this.verify),
      el("div", { class: "field check" }, this.early, label(this.early, "Early text")),
      field("System prompt", this.system, { wide: true }));
    this.root = el("details", { class: "options", open: !closed }, el("summary", {}, "Options"), row);
  }

  /** Arguments for `chatBody`. A random seed is drawn here, so that a kept trace can be asked for again. */
  values() {
    const given = (control) => (control.value.trim() === "" ? undefined : Number(control.value));
    const diffusion = {
      steps: given(this.steps),
      sampler: this.sampler.value || undefined,
      verify: this.verify.value || undefined,
      early_text: this.early.checked || undefined,
    };
    return {
      seed: given(this.seed) ?? Math.floor(Math.random() * 2 ** 31),
      temperature: given(this.temperature),
      max_tokens: given(this.tokens),
      system: this.system.value.trim(),
      diffusion,
    };
  }
}

/** The samplers that the server names, as choices of a menu. */
export function samplerNames(info) {
  const names = (info?.samplers ?? SAMPLERS).map((sampler) => sampler?.name ?? sampler);
  return names.map((name) => [name, name.replaceAll("_", " ")]);
}

function label(control, text) {
  control.id ||= `field-${(serial += 1)}`;
  return el("label", { for: control.id }, text);
}

/** What a view opens with: for the embedded model, which does it best, a sudoku. */
export function firstPrompt(info, prompts) {
  const [, text] = (info?.model === "nano" && prompts.find(([name]) => name === "Sudoku")) || prompts[0];
  return text;
}

/** Example prompts as small buttons that fill in a field. */
export function examples(list, use) {
  const buttons = list.map(([name, ...values]) => el("button", { type: "button", class: "chip", onclick: () => use(...values) }, name));
  return el("div", { class: "chips", role: "group", "aria-label": "Examples" }, buttons);
}

/**
 * A submit button that reads Stop while `work(signal)` runs. Errors go to `say(message, true)`; a stop is no error.
 */
export class Runner {
  #running = null;

  constructor(label, work, say) {
    Object.assign(this, { label, work, say });
    // After a click of the mouse, Space is for the player: a button that kept the focus would send the request again.
    const leave = (event) => event.detail && this.button.blur();
    this.button = el("button", { type: "submit", class: "primary", onclick: leave }, label);
  }

  /** To be called on submit. */
  async toggle(event) {
    event?.preventDefault();
    if (this.#running) return this.#running.abort();
    const running = (this.#running = new AbortController());
    this.button.textContent = "Stop";
    try {
      await this.work(running.signal);
    } catch (error) {
      if (running.signal.aborted) this.say("Stopped.");
      else this.say(error.message, true);
    } finally {
      this.#running = null;
      this.button.textContent = this.label;
    }
  }
}
