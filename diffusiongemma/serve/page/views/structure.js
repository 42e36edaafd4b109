/** Structure: a JSON Schema or regular expression, and the draft checked against it at every step. */

import { chatBody, watch } from "../api.js";
import { Options, Runner, choice, examples, field, submitOnEnter } from "../form.js";
import { problemOf } from "../schema.js";
import { Stage } from "../stage.js";
import { Timeline } from "../timeline.js";
import { el } from "../util.js";

const PERSON = {
  type: "object",
  properties: { name: { type: "string", maxLength: 20 }, age: { type: "integer", minimum: 0, maximum: 120 }, member: { type: "boolean" } },
  required: ["name", "age", "member"],
  additionalProperties: false,
};
const WEATHER = {
  type: "object",
  properties: { city: { type: "string", maxLength: 16 }, sky: { enum: ["clear", "cloudy", "rain"] }, degrees: { type: "array", items: { type: "integer", minimum: -30, maximum: 45 }, minItems: 3, maxItems: 3 } },
  required: ["city", "sky", "degrees"],
  additionalProperties: false,
};
const TRIP = {
  type: "object",
  properties: { name: { type: "string", maxLength: 24 }, to: { type: "string", maxLength: 24 }, fare: { type: ["number", "null"] }, time: { type: ["string", "null"], maxLength: 8 } },
  required: ["name", "to", "fare", "time"],
  additionalProperties: false,
};
const EXAMPLES = [
  ["Trip", "schema", JSON.stringify(TRIP, null, 2), "Anna Berg travels from Oslo to Lisbon. It leaves at 14:30. The ticket costs $120."],
  ["Person", "schema", JSON.stringify(PERSON, null, 2), "Anna Berg is 34 years old and a member of the club."],
  ["Weather", "schema", JSON.stringify(WEATHER, null, 2), "It rains in Oslo: 4 degrees, then 6, then 5. Give this as JSON."],
  ["Date", "regex", "20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])", "On which day did the new year 2024 begin?"],
  ["Phone", "regex", "\\+[1-9][0-9]{0,2}( [0-9]{2,4}){2,3}", "Give a phone number in Germany."],
];

export class StructureView {
  #structure = null;

  constructor(info) {
    this.kind = choice([["schema", "JSON Schema"], ["regex", "Regular expression"]], "schema");
    this.source = el("textarea", { rows: 12, class: "code", spellcheck: "false", required: true });
    this.prompt = el("textarea", { rows: 3, required: true });
    this.options = new Options(info);
    this.badge = el("p", { class: "badge" });
    this.marks = el("ol", { class: "marks", "aria-label": "Whether the draft keeps to the form, step by step" });
    this.output = el("pre", { class: "output", tabindex: 0, "aria-label": "Result" });
    this.stage = new Stage({ empty: "Every draft of the reply keeps to the structure, from the first step on.", compact: true, onMoment: (moment) => this.#show(moment) });
    this.runner = new Runner("Generate", (signal) => this.#run(signal), (...message) => this.stage.say(...message));
    const form = el("form", { class: "card ask", onsubmit: (event) => this.runner.toggle(event) },
      el("div", { class: "side-by-side" }, field("Schema or expression", this.source),
        el("div", { class: "ask" }, field("Kind", this.kind), field("Prompt", this.prompt),
          el("div", { class: "row" }, examples(EXAMPLES, (...example) => this.#use(...example)), this.runner.button), this.runner.alert, this.options.root)));
    submitOnEnter(this.prompt, form);
    this.result = el("section", { class: "card result", "aria-label": "Draft", hidden: true },
      el("div", { class: "row" }, el("h2", {}, "The draft"), this.badge), this.output,
      el("p", { class: "hint", id: "ticks" }, "Each mark is one step: ✓ where the draft keeps to the form. The form is guaranteed; whether what it says is right, it does not tell."),
      el("div", { class: "ticked" }, el("span", { class: "hint" }, "step"), this.marks));
    this.root = el("section", { class: "view structure", "aria-label": "Structure" }, form, el("div", { class: "side-by-side" }, this.stage.root, this.result));
    this.#use(...EXAMPLES[0].slice(1));
  }

  #use(kind, source, prompt) {
    this.kind.value = kind;
    this.source.value = source;
    this.prompt.value = prompt;
  }

  /** The structure as typed. Raises an Error that says what is wrong with it. */
  #read() {
    const source = this.source.value.trim();
    if (this.kind.value === "regex") {
      new RegExp(source, "u"); // a mistake is told here rather than by the server
      return { regex: source };
    }
    try {
      return { schema: JSON.parse(source) };
    } catch (error) {
      throw new Error(`The schema is not JSON: ${error.message}`);
    }
  }

  async #run(signal) {
    // Before anything can be wrong: beside a mistake, the draft before would be taken for its own.
    const timeline = new Timeline();
    this.stage.load(timeline, { live: true });
    this.marks.replaceChildren();
    this.result.hidden = true;
    try {
      this.#structure = this.#read();
      const { schema, regex } = this.#structure;
      const { diffusion, ...options } = this.options.values();
      const format = schema === undefined ? {} : { response_format: { type: "json_schema", json_schema: { name: "answer", schema } } };
      const body = chatBody(this.prompt.value, { ...options, ...format, diffusion: { ...diffusion, regex } });
      this.stage.say("The schema is being compiled…");
      await watch("/v1/chat/completions", body, { signal, timeline, onEvent: () => this.#grown(true) });
    } finally {
      this.#grown(false);
    }
  }

  #grown(live) {
    if (live && this.stage.timeline.moments.length === 1) this.stage.say("Generating…");
    this.stage.grown(live);
    const moments = this.#shown;
    if (!live) this.marks.replaceChildren(); // which canvas is the last is only known now
    while (this.marks.childElementCount < moments.length) this.marks.append(this.#mark(this.marks.childElementCount));
  }

  /** All moments but the noise, which is nobody's draft. */
  get #shown() {
    return this.stage.timeline.moments.filter((moment) => moment.frame?.step !== 0);
  }

  #mark(index) {
    const moment = this.#shown[index];
    const [state, words] = this.#judge(moment);
    const name = `${moment.frame ? `Step ${moment.frame.step}` : "Committed"}: ${words}`;
    const go = () => (this.stage.player.pause(), this.stage.player.go(this.stage.timeline.moments.indexOf(moment)));
    return el("li", {}, el("button", { type: "button", class: `mark ${state}`, "aria-label": name, title: name, onclick: go }, { valid: "✓", open: "…", invalid: "✕" }[state]),
      el("span", { class: "tick", "aria-hidden": "true" }, moment.frame ? String(moment.frame.step) : "end"));
  }

  /** A draft that another canvas will go on with cannot be whole yet. */
  #judge(moment) {
    const { timeline } = this.stage;
    const problem = problemOf(timeline.draftAt(moment), this.#structure);
    if (!problem) return ["valid", "keeps to the form"];
    const goesOn = !timeline.done || moment.commits < timeline.commits.length - (moment.frame ? 1 : 0);
    return goesOn ? ["open", "goes on in the next canvas"] : ["invalid", problem];
  }

  #show(moment) {
    if (moment.frame?.step === 0) return;
    const [state, words] = this.#judge(moment);
    this.result.hidden = false;
    this.badge.className = `badge ${state}`;
    this.badge.textContent = words;
    const text = this.stage.timeline.draftAt(moment);
    this.output.textContent = moment.frame || this.#structure.regex !== undefined ? text : pretty(text);
    [...this.marks.children].forEach((item, i) => item.classList.toggle("now", this.#shown[i] === moment));
  }
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
