/** The script of an exported page: the stage alone, with the trace that the page carries. */

import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";
import { el } from "./util.js";

const trace = JSON.parse(document.getElementById("trace").textContent);
const timeline = Timeline.fromTrace(trace);
const stage = new Stage();
const messages = trace.request?.body?.messages ?? [];
const prompt = messages.findLast((message) => message.role === "user")?.content;
document.getElementById("main").append(
  el("header", { class: "exported-head" }, el("h1", {}, "A reply, as it was denoised"),
    typeof prompt === "string" && el("p", { class: "prompt" }, prompt),
    el("p", { class: "hint" }, `${timeline.start.model ?? "DiffusionGemma"}, seed ${timeline.start.seed ?? "unknown"}`)),
  stage.root);
stage.load(timeline, { playing: !matchMedia("(prefers-reduced-motion: reduce)").matches });
