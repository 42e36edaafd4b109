/** Forms: labelled fields, the options of a generation, and the run button that becomes a stop button. */

import { el } from "./util.js";

let serial = 0;

/** A field with its label; `hint` is said below it, `title` when it is pointed at. */
export function field(label, control, { hint = "", wide = false, title = undefined } = {}) {
  control.id ||= `field-${(serial += 1)}`;
  const about = hint ? el("span", { class: "hint", id: `${control.id}-hint` }, hint) : null;
  if (about) control.setAttribute("aria-describedby", about.id);
  return el("div", { class: wide ? "field wide" : "field" }, el("label", { for: control.id, title }, label), control, about);
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

const CHECKED = [["never", "never"], ["unconverged", "when unsure"], ["surprising", "when surprising"], ["always", "always"]];

/** Seed, steps, sampler, temperature, length, second look, early text, system prompt; empty fields keep the model's defaults. */
export class Options {
  constructor(info, { closed = true } = {}) {
    const defaults = info?.defaults ?? {};
    const hint = (value) => (value === undefined || value === null ? "default" : String(value));
    this.seed = number({ min: 0, step: 1, placeholder: "random" });
    this.steps = number({ min: 1, step: 1, placeholder: hint(defaults.steps) });
    this.temperature = number({ min: 0, max: 2, step: "any", placeholder: "the model’s own" });
    this.tokens = number({ min: 1, step: 1, placeholder: hint(defaults.max_tokens) });
    this.sampler = choice([["", "default"], ...samplerNames(info)], "");
    this.verify = choice([["", "default"], ...CHECKED], "", { title: "The model reads its finished text once more from left to right, and rewrites it from the first token that it would not have written" });
    this.early = el("input", { type: "checkbox", title: "The beginning of the answer is sent, and stays, as soon as it no longer changes" });
    this.system = el("textarea", { rows: 2, placeholder: "none" });
    const row = el("div", { class: "fields" },
      field("Seed", this.seed), field("Steps per canvas", this.steps, { title: "A canvas is the block of tokens that is refined together" }), field("Sampler", this.sampler),
      field("Temperature", this.temperature), field("Most tokens", this.tokens), field("Second look", this.verify),
      el("div", { class: "field check" }, this.early, label(this.early, "Send the beginning early")),
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
  const names = (info?.samplers ?? []).map((sampler) => sampler?.name ?? sampler);
  return names.map((name) => [name, name.replaceAll("_", " ")]);
}

function label(control, text) {
  control.id ||= `field-${(serial += 1)}`;
  return el("label", { for: control.id }, text);
}

/** The examples that the model was taught, where it says what it was taught; `[name, text, skill]` each. */
export function fitting(info, prompts) {
  const skills = info?.skills ?? [];
  const known = prompts.filter(([, , skill]) => skills.includes(skill));
  return known.length ? known : prompts;
}

/** A text field that grows with what is typed, in whole lines. */
export function growing(area) {
  const fit = () => {
    area.style.height = "auto";
    area.style.height = `${area.scrollHeight + 2}px`;
  };
  area.addEventListener("input", fit);
  new ResizeObserver(() => area.clientWidth !== area.fittedAt && ((area.fittedAt = area.clientWidth), fit())).observe(area);
  return area;
}

/** Fill a field as if it were typed. */
export function fill(area, text) {
  area.value = text;
  area.dispatchEvent(new Event("input"));
}

/** Control or Command with Enter submits, as a plain Enter is a line break. */
export function submitOnEnter(area, form) {
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
}

/** A quiet button. */
export function action(label, onclick, title = undefined) {
  return el("button", { type: "button", class: "quiet", onclick, title }, label);
}

/** A button that opens the dialogue for files; `onFile(file)` gets the one chosen. */
export function fileButton(label, accept, onFile) {
  const input = el("input", { type: "file", accept, class: "visually-hidden", onchange: () => {
    if (input.files[0]) onFile(input.files[0]);
    input.value = "";
  } });
  input.id = `field-${(serial += 1)}`;
  return el("span", { class: "file" }, input, el("label", { for: input.id, class: "quiet" }, label));
}

/** Example prompts as small buttons that fill in a field. */
export function examples(list, use) {
  const buttons = list.map(([name, ...values]) => el("button", { type: "button", class: "chip", onclick: () => use(...values) }, name));
  return el("div", { class: "chips", role: "group", "aria-label": "Examples" }, buttons);
}

/**
 * A submit button that reads Stop while `work(signal)` runs. Errors are told in `alert`, which belongs beside the button; a
 * stop is no error.
 */
export class Runner {
  #running = null;

  constructor(label, work, say) {
    this.label = label;
    this.work = work;
    this.say = say;
    // After a click of the mouse, Space is for the player: a button that kept the focus would send the request again.
    const leave = (event) => event.detail && this.button.blur();
    this.button = el("button", { type: "submit", class: "primary", onclick: leave }, label);
    this.alert = el("p", { class: "alert", role: "alert", hidden: true });
  }

  /** A mistake, told beside the button that led to it. */
  #complain(message) {
    this.alert.textContent = message;
    this.alert.hidden = !message;
    if (message) this.alert.scrollIntoView({ block: "nearest" });
  }

  get running() {
    return this.#running !== null;
  }

  /** To be called on submit. */
  async toggle(event) {
    event?.preventDefault();
    if (this.#running) return this.#running.abort();
    const running = (this.#running = new AbortController());
    this.#complain("");
    this.button.textContent = "Stop";
    try {
      await this.work(running.signal);
    } catch (error) {
      if (running.signal.aborted) this.say("Stopped.");
      else {
        this.say("");
        this.#complain(error.message);
      }
    } finally {
      this.#running = null;
      this.button.textContent = this.label;
    }
  }
}
