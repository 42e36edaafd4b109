/** Viewing apart from generating: a position in a timeline that plays, pauses, steps, and waits for what is to come. */

import { clamp, el, icon } from "./util.js";

export const SHORTEST = 0.09; // seconds a moment is shown at speed 1, so that a small fast model can be watched
const LONGEST = 1.5; // and at most: nobody waits for a slow step twice
const SPEEDS = [0.25, 0.5, 1, 2, 4, 8];

/** `onMoment(moment, index)` is called for each moment shown. */
export class Player {
  timeline = null;
  index = -1;
  playing = false;
  live = false;
  speed = 1;
  #timer = 0;

  constructor({ onMoment }) {
    this.onMoment = onMoment;
    this.root = this.#controls();
    this.#refresh();
  }

  /** Play a timeline from its start; `live` while it still grows. */
  load(timeline, { live = false, playing = true } = {}) {
    this.pause();
    Object.assign(this, { timeline, live, index: -1 });
    if (!live) this.go(playing ? 0 : this.last);
    if (playing) this.play();
    this.#refresh();
  }

  /** The live timeline has grown or, with `live` false, is complete. */
  grown(live = true) {
    this.live = live;
    if (this.index < 0 && this.last >= 0) this.go(0);
    if (this.playing && !this.#timer) this.#wait();
    this.#refresh();
  }

  get last() {
    return (this.timeline?.moments.length ?? 0) - 1;
  }

  go(index) {
    if (this.last < 0) return;
    this.index = clamp(index, 0, this.last);
    this.onMoment(this.timeline.moments[this.index], this.index);
    this.#refresh();
  }

  step(by) {
    this.pause();
    this.go(this.index + by);
  }

  play() {
    this.playing = true;
    if (!this.live && this.index >= this.last) this.go(0);
    this.#wait();
    this.#refresh();
  }

  pause() {
    this.playing = false;
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#refresh();
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  #wait() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    if (this.index < this.last) this.#timer = setTimeout(() => this.#advance(), (1000 * this.#dwell()) / this.speed);
    else if (!this.live) this.pause();
  }

  /** Seconds that the present moment stays: as long as the next one took, within bounds. */
  #dwell() {
    const { moments } = this.timeline;
    const took = moments[this.index + 1].seconds - (moments[this.index]?.seconds ?? 0);
    return clamp(took, this.timeline.isAutoregressive ? SHORTEST / 3 : SHORTEST, LONGEST);
  }

  #advance() {
    this.#timer = 0;
    this.go(this.index + 1);
    if (this.playing) this.#wait();
  }

  /** Space plays and pauses, arrows step, Home and End jump. Returns whether the key was one of these. */
  key(event) {
    const actions = {
      " ": () => this.toggle(), ArrowLeft: () => this.step(-1), ArrowRight: () => this.step(1),
      Home: () => this.step(-Infinity), End: () => this.step(Infinity),
    };
    if (!actions[event.key] || this.last < 0 || event.ctrlKey || event.metaKey || event.altKey) return false;
    actions[event.key]();
    return true;
  }

  #controls() {
    const button = (name, label, onclick) => el("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick }, icon(name));
    this.toggleButton = button("play", "Play", () => this.toggle());
    this.backButton = button("back", "Step back", () => this.step(-1));
    this.forwardButton = button("forward", "Step forward", () => this.step(1));
    this.scrub = el("input", { type: "range", min: 0, max: 0, value: 0, class: "scrub", "aria-label": "Step", oninput: () => {
      const index = Number(this.scrub.value); // read before pausing, which redraws the controls
      this.pause();
      this.go(index);
    } });
    const options = SPEEDS.map((speed) => el("option", { value: speed, selected: speed === 1 }, `${speed}×`));
    const speed = el("select", { "aria-label": "Speed", class: "speed", onchange: () => (this.speed = Number(speed.value)) }, options);
    return el("div", { class: "player", role: "group", "aria-label": "Player" }, this.backButton, this.toggleButton, this.forwardButton, this.scrub, speed);
  }

  #refresh() {
    const label = this.playing ? "Pause" : "Play";
    if (this.toggleButton.title !== label) {
      this.toggleButton.replaceChildren(icon(label.toLowerCase()));
      this.toggleButton.title = label;
      this.toggleButton.setAttribute("aria-label", label);
    }
    const empty = this.last < 0;
    for (const control of [this.toggleButton, this.backButton, this.forwardButton, this.scrub]) control.disabled = empty;
    this.scrub.max = Math.max(0, this.last);
    this.scrub.value = Math.max(0, this.index);
    const moment = this.timeline?.moments[this.index];
    const name = moment?.frame?.step === 0 ? "noise" : moment?.frame ? `canvas ${moment.frame.canvas + 1}, step ${moment.frame.step}` : moment ? "committed" : "nothing yet";
    this.scrub.setAttribute("aria-valuetext", name);
  }
}
