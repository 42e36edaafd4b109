/** Watch: a reply as the canvas that it is. */

import { chatBody, readBoard, watch } from "../api.js";
import { answerPattern } from "../board.js";
import { Options, Runner, action, examples, field, fill, fitting, growing, submitOnEnter } from "../form.js";
import { shareButtons } from "../share.js";
import { Stage } from "../stage.js";
import { Timeline } from "../timeline.js";
import { copy, download, el } from "../util.js";

const PROMPTS = [
  ["Sudoku", "Solve this sudoku:\n5.73.94..\n32..5..9.\n.6.24...5\n283..45.7\n.915728.6\n67.13824.\n952.6.781\n.3.8.7..4\n.4.9..62.", "sudoku"],
  ["Facts", "Answer with JSON of this shape: {\"name\": string, \"to\": string, \"fare\": number or null, \"time\": string or null}\n\nAnna Berg travels from Oslo to Lisbon. It leaves at 14:30. The ticket costs $120.", "extraction"],
  ["Repair", "Rewrite in the past tense.\n\nAfter lunch, Anna will paint a picture in the garden.", "repair"],
  ["Short answer", "Tell me the color of an emerald.", "answers"],
  ["Story", "Tell a short story about a fox who learns to swim."],
  ["List", "List five animals that live in the sea."],
];

export class WatchView {
  constructor(info, { goTo }) {
    this.goTo = goTo;
    this.info = info;
    this.prompt = growing(el("textarea", { rows: 3, required: true, placeholder: "Ask for something" }));
    this.options = new Options(info);
    this.copyButton = action("Copy text", () => this.#copy());
    this.saveButton = action("Save trace", () => this.#save());
    this.branchButton = action("Branch from here", () => this.#branch());
    const actions = [this.copyButton, this.saveButton, this.branchButton];
    this.stage = new Stage({ empty: "The reply settles here, all positions at once.", actions });
    this.share = shareButtons(this.stage);
    this.stage.player.root.after(this.share);
    this.runner = new Runner("Generate", (signal) => this.#run(signal), (...message) => this.stage.say(...message));
    const offered = fitting(info, PROMPTS);
    const form = el("form", { class: "card ask", onsubmit: (event) => this.runner.toggle(event) },
      field("Prompt", this.prompt, { wide: true }),
      el("div", { class: "row" }, examples(offered.map(([name, text]) => [name, text]), (text) => fill(this.prompt, text)), this.runner.button), this.runner.alert, this.options.root);
    this.prompt.value = offered[0][1];
    submitOnEnter(this.prompt, form);
    this.root = el("section", { class: "view", "aria-label": "Watch" }, form, this.stage.root);
    this.#enable(false);
  }

  async #run(signal) {
    const timeline = new Timeline();
    this.#enable(false);
    this.stage.load(timeline, { live: true });
    this.stage.say("Generating…");
    try {
      const body = await this.#body();
      await watch("/v1/chat/completions", body, { signal, timeline, onEvent: () => this.stage.grown(true) });
    } finally {
      this.stage.grown(false);
      this.#enable(timeline.moments.length > 0);
    }
  }

  /** A sudoku goes out as the model was taught it, unless it is written so already. */
  async #body() {
    const [text, { diffusion, ...options }] = [this.prompt.value, this.options.values()];
    const found = this.info?.skills?.includes("sudoku") ? await readBoard(text, true) : { board: null };
    if (!found.board || found.prompt === text.trim()) return chatBody(text, { diffusion, ...options });
    return chatBody(found.prompt, { ...options, diffusion: { ...diffusion, regex: answerPattern(found.board) } });
  }

  #enable(on) {
    for (const button of [this.copyButton, this.saveButton, this.branchButton]) button.disabled = !on;
    this.share.hidden = !on;
  }

  async #copy() {
    await copy(this.stage.timeline.finalText);
    this.stage.say("Copied.");
  }

  #save() {
    download("trace.json", JSON.stringify(this.stage.timeline.toTrace()), "application/json");
  }

  #branch() {
    const { timeline, player } = this.stage;
    this.goTo("replay", (view) => view.open(timeline.toTrace(), player.index));
  }
}
