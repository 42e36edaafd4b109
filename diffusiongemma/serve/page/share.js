/** What of a generation can be given to others: a page, an animated picture, a link that carries it. */

import { drawPicture } from "./api.js";
import { exportPage } from "./export.js";
import { action } from "./form.js";
import { copy, download, el } from "./util.js";

const LONGEST_LINK = 12_000; // characters; what is longer breaks in mail and chat

/** Buttons that share the timeline of a stage. */
export function shareButtons(stage) {
  const told = (work, done) => async () => {
    try {
      await work(stage.timeline);
      stage.say(done);
    } catch (error) {
      stage.say(error.message, true);
    }
  };
  const buttons = [
    action("Share as a page", told(async (timeline) => download("generation.html", await exportPage(timeline), "text/html"), "One file with the player in it: it needs neither server nor network."), "One HTML file that plays this anywhere"),
    action("As a picture", told(async (timeline) => download("generation.gif", await drawPicture(timeline.toTrace()), "image/gif"), "An animated picture of the first canvas."), "A GIF of the text settling"),
    action("Copy a link", told(async (timeline) => copy(await linkOf(timeline)), "Copied: the link carries the whole generation, for whoever can open this server."), "A link to this server that carries the generation"),
  ];
  return el("div", { class: "actions share", role: "group", "aria-label": "Share" }, buttons);
}

/** An address of this page with the trace packed into its fragment, which no server ever sees. */
export async function linkOf(timeline) {
  const packed = await squeezed(JSON.stringify(slim(timeline.toTrace())));
  const link = `${location.origin}${location.pathname}#trace=${packed}`;
  if (link.length > LONGEST_LINK) throw new Error("This is too long for a link: share it as a page.");
  return link;
}

/** The trace in a fragment like `#trace=…`, or null. */
export async function traceOfLink(fragment) {
  const packed = /^#trace=([\w-]+)$/.exec(fragment)?.[1];
  if (!packed) return null;
  try {
    const bytes = Uint8Array.from(atob(packed.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    return JSON.parse(await new Response(stream).text());
  } catch {
    throw new Error("This link is damaged: ask for it again, or for the page.");
  }
}

async function squeezed(text) {
  const stream = new Blob([text]).stream().pipeThrough(new CompressionStream("deflate-raw"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  let letters = "";
  for (const byte of bytes) letters += String.fromCharCode(byte);
  return btoa(letters).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** Without what only the inspector shows of the end. */
function slim(trace) {
  const events = trace.events.map(([name, event]) => {
    if (name !== "commit") return [name, event];
    const { alternatives: _, logprobs: __, ...rest } = event;
    return [name, rest];
  });
  return { ...trace, events };
}
