// Looking closely: zoom by key, wheel, pinch or double click; drag to move; contrast and brightness.

const LARGEST = 8;
const STEP = 2.5;
const SWIPE_PX = 80;
const SWIPE_MS = 600;

export const CONTRASTS = ["plain", "strong", "bright", "dark"];

/** The picture in `stage`; `frames` is what is moved. `swiped("left" | "right")` is told of a swipe at full size. */
export class View {
  #zoom = 1;
  #x = 0;
  #y = 0;
  #pointers = new Map();
  #gesture = null;
  #contrast = 0;

  constructor(stage, frames, { swiped, zoomed }) {
    Object.assign(this, { stage, frames, swiped, zoomed });
    stage.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    stage.addEventListener("pointerdown", (event) => this.#down(event));
    stage.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, (event) => this.#up(event));
    stage.addEventListener("dblclick", (event) => event.target.closest("button, a") || this.toggle(event));
  }

  get closer() {
    return this.#zoom > 1;
  }

  /** The whole picture again. */
  reset() {
    this.#place(1, 0, 0);
  }

  /** Closer, at the pointer where there is one; or back. */
  toggle(event) {
    if (this.closer) this.reset();
    else this.#zoomAt(STEP, event ?? null);
  }

  /** The next of CONTRASTS; its name. */
  nextContrast() {
    this.stage.classList.remove(`light-${CONTRASTS[this.#contrast]}`);
    this.#contrast = (this.#contrast + 1) % CONTRASTS.length;
    this.stage.classList.add(`light-${CONTRASTS[this.#contrast]}`);
    return CONTRASTS[this.#contrast];
  }

  #zoomAt(zoom, point) {
    const wanted = Math.min(Math.max(zoom, 1), LARGEST);
    const box = this.stage.getBoundingClientRect();
    const x = point ? point.clientX - box.left - box.width / 2 : 0;
    const y = point ? point.clientY - box.top - box.height / 2 : 0;
    const times = wanted / this.#zoom;
    this.#place(wanted, x - (x - this.#x) * times, y - (y - this.#y) * times);
  }

  #place(zoom, x, y) {
    const box = this.stage.getBoundingClientRect();
    const most = { x: ((zoom - 1) * box.width) / 2, y: ((zoom - 1) * box.height) / 2 };
    this.#zoom = zoom;
    this.#x = Math.min(Math.max(x, -most.x), most.x);
    this.#y = Math.min(Math.max(y, -most.y), most.y);
    this.frames.style.transform = zoom === 1 ? "" : `translate(${this.#x}px, ${this.#y}px) scale(${zoom})`;
    this.stage.classList.toggle("closer", zoom > 1);
    this.zoomed(zoom);
  }

  #wheel(event) {
    event.preventDefault();
    this.#zoomAt(this.#zoom * Math.exp(-event.deltaY / (event.deltaMode ? 12 : 400)), event);
  }

  #down(event) {
    if (event.button !== 0 || event.target.closest("button, a")) return;
    this.stage.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, event);
    this.#gesture = { start: event, zoom: this.#zoom, apart: this.#apart(), pinched: this.#pointers.size > 1 };
  }

  #move(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    this.#pointers.set(event.pointerId, event);
    if (this.#pointers.size === 2) {
      const [one, two] = this.#pointers.values();
      const middle = { clientX: (one.clientX + two.clientX) / 2, clientY: (one.clientY + two.clientY) / 2 };
      this.#zoomAt((this.#gesture.zoom * this.#apart()) / this.#gesture.apart, middle);
    } else if (this.closer) {
      const [x, y] = [event.clientX - before.clientX, event.clientY - before.clientY];
      this.#place(this.#zoom, this.#x + x, this.#y + y);
    }
  }

  #up(event) {
    if (!this.#pointers.delete(event.pointerId) || this.#pointers.size) return;
    const { start, pinched } = this.#gesture;
    const [x, y] = [event.clientX - start.clientX, event.clientY - start.clientY];
    const quick = event.timeStamp - start.timeStamp < SWIPE_MS;
    if (event.type === "pointerup" && event.pointerType === "touch" && quick && !pinched && !this.closer) {
      if (Math.abs(x) > SWIPE_PX && Math.abs(x) > 2 * Math.abs(y)) this.swiped(x < 0 ? "left" : "right");
    }
  }

  #apart() {
    const [one, two] = this.#pointers.values();
    return two ? Math.max(Math.hypot(one.clientX - two.clientX, one.clientY - two.clientY), 1) : 1;
  }
}
