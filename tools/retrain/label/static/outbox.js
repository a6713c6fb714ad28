// What was answered and has not arrived yet. Every entry is in the browser's storage before the next image is shown, so
// that a closed tab or a lost network loses no key press. Any page of the same person sends it. The server takes
// an id once, however often it is sent: of two tabs one may not have seen yet what the other has sent.

import { Away, post, SignedOut } from "./server.js";

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10000;
const MOST_AT_ONCE = 50;
const MARK = "ripeloop-outbox"; // gone where somebody emptied the storage

/** The server does not know the image yet, for it is still listing the container: ask again, in the same order. */
class NotListed extends Away {}

/** How many answers and the like of `person` this browser has not sent. */
export function unsentOf(person) {
  return waiting(prefixOf(person), localStorage).length;
}

/** Events: `changed`; `away` and `back`; `out` (signed out); `settled` with {entry, status, fields}, once an entry. */
export class Outbox extends EventTarget {
  #entries = []; // those that are `stored` are as the storage has them, also of other tabs
  #running = false;
  #away = false;
  #pause = FIRST_PAUSE_MS;
  #wake = () => {};
  #nth = 0;

  /** What `person` has not sent yet; another person's entries stay for when that person is back. */
  constructor(person, storage = localStorage) {
    super();
    this.prefix = prefixOf(person);
    this.storage = storage;
    this.#look();
    addEventListener("storage", (event) => this.#elsewhere(event));
    addEventListener("online", () => this.hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.hurry());
    this.#run();
  }

  get size() {
    return this.#entries.length;
  }

  /** The keys of the images whose answers are still here. */
  get keys() {
    return this.#entries.map((entry) => entry.body.key);
  }

  /** Send an answer; its id. */
  answer(fields) {
    return this.#add("answer", fields);
  }

  /** Take back the answer of that id. */
  undo(answer, key) {
    return this.#add("undo", { answer, key });
  }

  /** Hand the image back unanswered. */
  skip(key) {
    return this.#add("skip", { key });
  }

  /** Try again now. */
  hurry() {
    this.#wake();
    this.#run();
  }

  #add(what, fields) {
    const id = newId();
    const order = `${Date.now().toString(36).padStart(9, "0")}-${(this.#nth++).toString(36).padStart(5, "0")}`;
    const entry = { what, body: { id, ...fields }, place: `${this.prefix}${order}-${id}` };
    this.#store(entry);
    this.#entries.push(entry);
    this.#tell("changed");
    this.#run();
    return id;
  }

  #store(entry) {
    try {
      this.storage.setItem(entry.place, JSON.stringify({ what: entry.what, body: entry.body }));
      entry.stored = true;
    } catch {
      // the storage is full or closed: the page alone has it, so ask before it is closed
      addEventListener("beforeunload", this.#stay);
    }
  }

  async #run() {
    if (this.#running) return;
    this.#running = true;
    try {
      while (this.#entries.length) {
        try {
          await alone(this.prefix, () => this.#sendSome());
          this.#pause = FIRST_PAUSE_MS;
          if (this.#away) this.#tell("back");
          this.#away = false;
        } catch (error) {
          if (error instanceof SignedOut) return this.#tell("out");
          if (!(error instanceof Away)) throw error;
          if (!(error instanceof NotListed)) {
            if (!this.#away) this.#tell("away");
            this.#away = true;
          }
          await this.#wait();
        }
      }
    } finally {
      this.#running = false;
    }
  }

  // another tab of the same person answered, or has sent something
  #elsewhere({ key }) {
    if (!key?.startsWith(this.prefix)) return;
    this.#look();
    this.#tell("changed");
    this.#run();
  }

  // what other tabs left is this one's to send, what they have sent is gone
  #look() {
    if (this.storage.getItem(MARK) === null) this.#putBack();
    const unstored = this.#entries.filter((entry) => !entry.stored);
    const all = [...unstored, ...waiting(this.prefix, this.storage)];
    this.#entries = all.sort((one, other) => (one.place < other.place ? -1 : 1));
  }

  #putBack() {
    for (const entry of this.#entries) {
      entry.stored = false;
      this.#store(entry);
    }
    try {
      this.storage.setItem(MARK, "1");
    } catch {
      // full: the next look puts them back again
    }
  }

  async #sendSome() {
    this.#look();
    if (this.#entries.length) await this.#send(this.#batch());
  }

  // answers at the front go together; all else alone, for the order matters
  #batch() {
    const first = this.#entries[0];
    if (first.what !== "answer") return [first];
    const end = this.#entries.findIndex((entry) => entry.what !== "answer");
    return this.#entries.slice(0, Math.min(end < 0 ? this.#entries.length : end, MOST_AT_ONCE));
  }

  async #send(batch) {
    const [first] = batch;
    if (batch.length === 1) {
      const { status, fields } = await post(`/api/${first.what}`, first.body);
      if (isLater(status, fields)) throw new NotListed(first.body.key);
      return this.#settle(first, status, fields);
    }
    const { status, fields } = await post("/api/answers", { answers: batch.map((entry) => entry.body) });
    if (status !== 200) {
      for (const entry of batch) await this.#send([entry]);
      return;
    }
    const { outcomes, standing } = fields;
    const later = (nth) => isLater(outcomes[nth].status, outcomes[nth]);
    batch.forEach((entry, nth) => {
      if (!later(nth)) this.#settle(entry, outcomes[nth].status, { standing, ...outcomes[nth] });
    });
    const waits = batch.find((_, nth) => later(nth));
    if (waits) throw new NotListed(waits.body.key);
  }

  #settle(entry, status, fields) {
    this.#entries = this.#entries.filter(({ place }) => place !== entry.place);
    this.storage.removeItem(entry.place);
    this.#tell("settled", { entry, status, fields });
    this.#tell("changed");
  }

  #wait() {
    const pause = this.#pause * (0.75 + Math.random() / 2);
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE_MS);
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, pause);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #stay = (event) => {
    if (this.#entries.length) event.preventDefault();
  };

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

function isLater(status, fields) {
  return status === 404 && fields.later === true;
}

// while no other tab does; browsers offer it on https and on this computer alone
function alone(name, work) {
  return navigator.locks ? navigator.locks.request(name, work) : work();
}

function prefixOf(person) {
  return `ripeloop/${encodeURIComponent(person)}/`; // a name may have a / of its own
}

function waiting(prefix, storage) {
  const mine = (name) => name.startsWith(prefix) && !name.slice(prefix.length).includes("/");
  const entries = Object.keys(storage).filter(mine).sort().map((place) => [place, parsed(storage.getItem(place))]);
  return entries.filter(([, entry]) => entry).map(([place, entry]) => ({ ...entry, place, stored: true }));
}

// crypto.randomUUID is there on https alone; a factory's page may be plain http
function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function parsed(text) {
  try {
    const { what, body } = JSON.parse(text);
    return typeof body.id === "string" && ["answer", "undo", "skip"].includes(what) ? { what, body } : null;
  } catch {
    return null;
  }
}
