// One image: fetched, decoded, and in the page before it is seen.

const WIDTHS = [640, 1024, 2048];
const TRIES = 4;
const FIRST_PAUSE_MS = 700;

/** Nobody has seen a picture so soon after it came: a second press within this was meant for the one before. */
export const GLANCE_MS = 120;

/** The width to ask for so that the picture fills `stage` sharply. */
export function widthFor(stage) {
  const side = Math.max(stage.clientWidth, stage.clientHeight) * Math.min(devicePixelRatio, 2);
  return WIDTHS.find((width) => width >= side * 0.8) ?? WIDTHS.at(-1);
}

/** `state` is loading, ready or broken; `changed()` is called when it changes. */
export class Sheet {
  state = "loading";
  changed = () => {};

  constructor(sample, alt) {
    this.sample = sample;
    this.picture = Object.assign(new Image(), { alt, decoding: "sync", draggable: false, className: "frame" });
  }

  /** Fetch and decode it, unseen, as one of `frames`. */
  async load(frames, width) {
    this.#state("loading");
    this.sharp = width === WIDTHS.at(-1);
    frames.append(this.picture);
    for (let nth = 0; nth < TRIES && this.picture.isConnected; nth += 1) {
      try {
        this.picture.src = `${this.sample.image}?w=${width}${nth ? `&again=${nth}` : ""}`;
        await this.picture.decode();
        return this.#state("ready");
      } catch {
        await new Promise((resolve) => setTimeout(resolve, FIRST_PAUSE_MS * 2 ** nth));
      }
    }
    return this.#state("broken");
  }

  show() {
    this.picture.classList.add("shown");
  }

  hide() {
    this.picture.classList.remove("shown");
  }

  /** The picture as large as there is one, for who looks closely. */
  async sharpen() {
    if (this.state !== "ready" || this.sharp) return;
    this.sharp = true;
    const large = Object.assign(new Image(), { src: `${this.sample.image}?w=${WIDTHS.at(-1)}` });
    try {
      await large.decode();
      this.picture.src = large.src;
    } catch {
      this.sharp = false; // the smaller one serves
    }
  }

  /** Let the picture go; `load` brings it back. */
  drop() {
    this.picture.remove();
  }

  /** The word for why nobody may say so of it who pressed that long after it was shown: they have not seen it. */
  hinders(kind, ms) {
    if (this.state === "loading") return "still_loading";
    if (this.state === "broken") return "no_picture";
    if (ms < GLANCE_MS) return "too_quick";
    return this.sample.broken && kind === "tag" ? "damaged" : "";
  }

  #state(state) {
    if (state === this.state) return;
    this.state = state;
    this.changed();
  }
}
