/** Watch: a reply as the canvas that it is. */

import { chatBody, watch } from "../api.js";
import { exportPage } from "../export.js";
import { Options, Runner, examples, field, firstPrompt } from "../form.js";
import { Stage } from "../stage.js";
import { Timeline } from "../timeline.js";
import { download, el } from "../util.js";

const PROMPTS = [
  ["Story", "Tell a short story about a fox who learns to swim."],
  ["List", "List five animals that live in the sea."],
  ["Facts", "Answer with JSON of this shape: {\"name\": string, \"to\": string, \"fare\": number or null, \"time\": string or null}\n\nAnna Berg travels from Oslo to Lisbon. It leaves at 14:30. The ticket costs $120."],
  ["Repair", "Rewrite in the past tense.\n\nAfter lunch, Anna will paint a picture in the garden."],
  ["Sudoku", "Solve this sudoku:\n5.73.94..\n32..5..9.\n.6.24...5\n283..45.7\n.915728.6\n67.13824.\n952.6.781\n.3.8.7..4\n.4.9..62."],
];

export class WatchView {
  constructor(info, { goTo }) {
    this.goTo = goTo;
    this.prompt = el("textarea", { rows: 2, required: true, placeholder: "Ask for something" });
    this.options = new Options(info);
    this.copyButton = action("Copy text", () => this.#copy());
    this.saveButton = action("Save trace", () => this.#save());
    this.exportButton = action("Export page", () => this.#export());
    this.branchButton = action("Branch from here", () => this.#branch());
    const actions = [this.copyButton, this.saveButton, this.exportButton, this.branchButton];
    this.stage = new Stage({ empty: "The reply settles here, all positions at once.", actions });
    this.runner = new Runner("Generate", (signal) => this.#run(signal), (...message) => this.stage.say(...message));
    const form = el("form", { class: "card ask", onsubmit: (event) => this.runner.toggle(event) },
      field("Prompt", this.prompt, { wide: true }),
      el("div", { class: "row" }, examples(PROMPTS, (text) => (this.prompt.value = text)), this.runner.button), this.options.root);
    this.prompt.value = firstPrompt(info, PROMPTS);
    submitOnEnter(this.prompt, form);
    this.root = el("section", { class: "view", "aria-label": "Watch" }, form, this.stage.root);
    this.#enable(false);
  }

  async #run(signal) {
    const body = chatBody(this.prompt.value, this.options.values());
    const timeline = new Timeline();
    this.#enable(false);
    this.stage.load(timeline, { live: true });
    this.stage.say("Generating…");
    try {
      await watch("/v1/chat/completions", body, { signal, timeline, onEvent: () => this.stage.grown(true) });
    } finally {
      this.stage.grown(false);
      this.#enable(timeline.moments.length > 0);
    }
  }

  #enable(on) {
    for (const button of [this.copyButton, this.saveButton, this.exportButton, this.branchButton]) button.disabled = !on;
  }

  async #copy() {
    await navigator.clipboard.writeText(this.stage.timeline.finalText);
    this.stage.say("Copied.");
  }

  #save() {
    download("trace.json", JSON.stringify(this.stage.timeline.toTrace()), "application/json");
  }

  async #export() {
    download("generation.html", await exportPage(this.stage.timeline), "text/html");
  }

  #branch() {
    const { timeline, player } = this.stage;
    this.goTo("replay", (view) => view.open(timeline.toTrace(), player.index));
  }
}

function action(label, onclick) {
  return el("button", { type: "button", class: "quiet", onclick }, label);
}

/** Control or Command with Enter submits, as a plain Enter is a line break. */
export function submitOnEnter(area, form) {
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
}
