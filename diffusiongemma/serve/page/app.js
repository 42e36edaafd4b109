/** The frame of the page: which view is open, light or dark, what the server says of itself. */

import { getInfo, hasKey, setKey } from "./api.js";
import { el } from "./util.js";
import { ChatView } from "./views/chat.js";
import { EditView } from "./views/edit.js";
import { HomeView } from "./views/home.js";
import { RaceView } from "./views/race.js";
import { ReplayView } from "./views/replay.js";
import { StructureView } from "./views/structure.js";
import { SudokuView } from "./views/sudoku.js";
import { WatchView } from "./views/watch.js";

const VIEWS = {
  start: HomeView, chat: ChatView, watch: WatchView, race: RaceView, edit: EditView, structure: StructureView, sudoku: SudokuView, replay: ReplayView,
};
const THEMES = ["auto", "light", "dark"];
const RETRY_MS = 500;

const main = document.getElementById("main");
const opened = new Map();
let info = null;

/** The view that the address names. A link that carries a trace opens it in Replay. */
function named() {
  const name = location.hash.slice(1).split("=")[0];
  return name === "trace" ? "replay" : name in VIEWS ? name : "start";
}

function open() {
  const name = named();
  if (!opened.has(name)) opened.set(name, new VIEWS[name](info, { goTo }));
  for (const [other, view] of opened) view.root.hidden = other !== name;
  const view = opened.get(name);
  if (!view.root.isConnected) main.append(view.root);
  for (const link of /** @type {NodeListOf<HTMLAnchorElement>} */ (document.querySelectorAll("nav a"))) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = name === "start" ? "DiffusionGemma" : `${name[0].toUpperCase()}${name.slice(1)} · DiffusionGemma`;
  return view;
}

/** Open a view and hand it something, as Watch does with a trace for Replay. */
function goTo(name, call) {
  history.pushState(null, "", `#${name}`);
  call(open());
}

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  localStorage.setItem("theme", theme);
  const button = document.getElementById("theme");
  button.title = `Colours: ${theme}`;
  button.setAttribute("aria-label", `Colours: ${theme}. Change`);
  dispatchEvent(new Event("themechange"));
}

function nextTheme() {
  const now = localStorage.getItem("theme") ?? "auto";
  setTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
}

async function start() {
  setTheme(THEMES.find((theme) => theme === localStorage.getItem("theme")) ?? "auto");
  if (named() === "start") open(); // it plays a recording, whatever the server says
  try {
    info = await patiently(getInfo);
    document.getElementById("model").replaceChildren(info.model, el("span", {}, ` · canvas of ${info.canvas_length}`));
    showLinks(info.links ?? {});
  } catch (error) {
    if (error.status === 401) return askForKey();
    const again = el("button", { type: "button", class: "quiet", onclick: () => location.reload() }, "Try again");
    document.getElementById("model").replaceChildren("no server ", again);
  }
  opened.get("start")?.inform(info);
  addEventListener("hashchange", open);
  open();
}

function showLinks(links) {
  const made = Object.entries(links).map(([name, address]) => el("a", { href: address, rel: "noopener noreferrer" }, name));
  document.getElementById("foot").replaceChildren(el("a", { href: "/openapi.json" }, "The API"), ...made);
}

/** The outcome of `work`, tried a few times: a server that is just starting, or a network that stumbles, is not the end. */
async function patiently(work, tries = 3) {
  try {
    return await work();
  } catch (error) {
    if (tries === 1 || error.status === 401) throw error;
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    return patiently(work, tries - 1);
  }
}

/** Past the header without changing the address, which names the view. */
function skip(event) {
  event.preventDefault();
  main.focus();
}

function askForKey() {
  const field = el("input", { type: "password", autocomplete: "off", id: "key", required: true });
  const form = el("form", { class: "card key", onsubmit: (event) => {
    event.preventDefault();
    setKey(field.value);
    form.remove();
    start();
  } }, el("label", { for: "key" }, "This server asks for an API key"), field,
  hasKey() && el("p", { class: "alert", role: "alert" }, "That key is not one of this server’s. Give another."), el("button", { class: "primary" }, "Continue"));
  main.append(form);
  field.focus();
}

document.getElementById("theme").addEventListener("click", nextTheme);
document.querySelector(".skip").addEventListener("click", skip);
start();
