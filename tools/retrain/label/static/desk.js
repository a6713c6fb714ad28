// What both ways of labelling share: tags and their keys, the outbox, how things stand, and the two dialogs.

import { meaning } from "./keys.js";
import { announce, note, standingTrouble } from "./notices.js";
import { Outbox } from "./outbox.js";
import { Away, get, post, SignedOut } from "./server.js";
import { percent, say } from "./words.js";

const POLL_MS = 10000;
const POLL_AWAY_MS = 2000;
const BUTTONS = "button[data-tag], button[data-command]";
const MOST_HEARD = 60; // at once
const GATHER_MS = 300; // answers that came too late are told together
const BOUNCE_MS = 200; // a second tap within this is the finger's, not the person's
const ONCE = ["none", "unsure", "junk", "skip", "keep", "take"]; // besides the tags: what takes the image away

const ALWAYS = ["undo", "smaller", "larger"]; // whether or not there is an image

export const element = (id) => document.getElementById(id);

/** What an answer comes to, in words. */
export function inWords(kind, tags) {
  return kind === "tag" ? tags.join(", ") : say(`kind_${kind}`);
}

/** `work` has answer(kind, tags, pressedAt), command(name), and may have settled(detail), look(sample) and reached(). */
export class Desk {
  tags = [];
  chosen = new Set();
  left = null; // images of this queue, where it is not simply all that are to label
  #idle = true;
  #standing = null;
  #heard = new Set(); // answers that came too late, by their ids
  #reached = true;
  #signedOut = false;
  #late = [];
  #lastTap = 0;
  #pressedAt = 0;

  constructor(work) {
    this.work = work;
    this.outbox = new Outbox(document.documentElement.dataset.person);
    this.outbox.addEventListener("changed", () => this.#showStanding());
    this.outbox.addEventListener("away", () => this.reached(false));
    this.outbox.addEventListener("back", () => this.reached(true));
    this.outbox.addEventListener("out", () => this.signedOut());
    this.outbox.addEventListener("settled", ({ detail }) => this.#settled(detail));
    document.addEventListener("keydown", (event) => this.#key(event));
    document.addEventListener("click", (event) => this.#click(event));
    element("help-button").addEventListener("click", () => this.#help());
    element("naming-form").addEventListener("submit", (event) => this.#named(event));
  }

  /** Once the server has told the tags and keys. */
  async start() {
    for (;;) {
      const told = await this.ask("/api/start");
      if (told) {
        this.prefetch = told.prefetch;
        this.#setTags(told.tags);
        this.stands(told.standing);
        setTimeout(() => this.#poll(), POLL_MS);
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_AWAY_MS));
    }
  }

  /** What the server answers, or null while it is away or nobody is signed in. */
  async ask(address) {
    try {
      const { status, fields } = await get(address);
      this.reached(true);
      return status === 200 ? fields : null;
    } catch (error) {
      if (error instanceof SignedOut) this.signedOut();
      else if (error instanceof Away) this.reached(false);
      else throw error;
      return null;
    }
  }

  /** How things stand, as the server told. */
  stands(standing) {
    if (!standing) return;
    this.#standing = standing;
    const told = (standing.taken ?? []).slice(0, MOST_HEARD);
    // the server tells it again until the page says that it has arrived
    if (told.length) this.ask(`/api/standing?heard=${told.map(({ id }) => id).join()}`);
    for (const { id, theirs } of told) {
      if (this.#heard.has(id)) continue;
      this.#heard.add(id);
      if (theirs) this.#tooLate({ theirs });
      else note(say("gone"), { tone: "warn", stays: true, close: say("close") });
    }
    this.#showStanding();
  }

  /** The server answered, or did not. */
  reached(now) {
    const back = now && !this.#reached;
    this.#reached = now;
    this.#showStanding();
    if (!back) return;
    announce(say("back"));
    this.outbox.hurry();
    this.work.reached?.();
  }

  /** The name of the text that tells why there is no image; `done` where all are labelled. */
  whyNothing(asking, done) {
    if (!this.#reached) return "waiting";
    return asking || !this.tags.length ? "loading" : done;
  }

  signedOut() {
    if (this.#signedOut) return;
    this.#signedOut = true;
    const href = `/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`;
    note(say("signed_out"), { tone: "warn", stays: true, action: { label: say("sign_in"), href }, close: say("close") });
  }

  /** Whether there is nothing to answer for: then no button can be pressed but undo. */
  idle(now) {
    this.#idle = now;
    for (const button of document.querySelectorAll(BUTTONS)) {
      if (!ALWAYS.includes(button.dataset.command)) button.disabled = now;
    }
  }

  /** Show what the model thinks on the tags; nothing for an empty list. */
  suggest(predictions) {
    const parts = new Map(predictions.map(({ tag, probability }) => [tag, probability]));
    for (const button of element("tags").children) {
      const part = parts.get(button.dataset.tag);
      button.style.setProperty("--part", part ?? 0);
      button.querySelector(".part").textContent = part === undefined ? "" : percent(part);
    }
    this.#choose([]);
  }

  async #poll() {
    if (!document.hidden) this.stands(await this.ask("/api/standing").then((told) => told?.standing ?? told));
    setTimeout(() => this.#poll(), this.#reached ? POLL_MS : POLL_AWAY_MS);
  }

  #showStanding() {
    const unsent = this.outbox.size;
    element("unsent").textContent = String(unsent);
    element("unsent-part").classList.toggle("calm", unsent === 0);
    if (this.#standing) {
      const written = (count) => count.toLocaleString(document.documentElement.lang);
      element("left").textContent = written(this.left ?? this.#standing.open);
      element("today").textContent = written(this.#standing.today);
    }
    if (!this.#reached) standingTrouble(say("server_away", { unsent }));
    else if (this.#standing && !this.#standing.online) {
      standingTrouble(say("store_away", { waiting: this.#standing.waiting }));
    } else standingTrouble("");
  }

  #settled(detail) {
    const { entry, status, fields } = detail;
    this.work.settled?.(detail);
    if (fields.standing) this.stands(fields.standing);
    if (status === 409) this.#tooLate({ theirs: fields.theirs, mine: entry.body, sample: fields.sample });
    else if (entry.what === "answer" && status >= 400) {
      const text = status === 404 ? say("gone") : say("refused", { why: fields.message ?? status });
      note(text, { tone: "warn", stays: true, close: say("close") });
    } else if (entry.what === "undo" && (status >= 400 || fields.outcome === "nothing")) {
      const text = status === 422 ? say("refused", { why: fields.message ?? status }) : say("nothing_undone");
      announce(text);
      note(text, { tone: "warn", close: say("close") });
    }
  }

  #tooLate(told) {
    this.#late.push(told);
    if (this.#late.length === 1) setTimeout(() => this.#tellLate(), GATHER_MS);
  }

  #tellLate() {
    const late = this.#late.splice(0);
    const [{ theirs, mine, sample }] = late;
    if (late.length > 1) return note(say("taken_many", { n: late.length }), { close: say("close") });
    const words = { who: theirs.by || say("somebody"), what: inWords(theirs.kind, theirs.tags ?? []) };
    const text = mine ? say("taken", { ...words, mine: inWords(mine.kind, mine.tags ?? []) }) : say("taken_late", words);
    const again = sample && this.work.look && { label: say("look_again"), run: () => this.work.look(sample) };
    return note(text, { action: again || null, image: sample && `${sample.image}?w=160`, close: say("close") });
  }

  #setTags(tags) {
    this.tags = tags;
    element("tags").replaceChildren(...tags.map((tag) => this.#tagButton(tag)));
    this.idle(this.#idle);
    element("help-tags").replaceChildren(...tags.filter(({ key }) => key).map(helpRow));
  }

  #tagButton({ tag, key }) {
    const button = document.createElement("button");
    button.className = "tag";
    button.dataset.tag = tag;
    const cap = Object.assign(document.createElement("kbd"), { textContent: key });
    const name = Object.assign(document.createElement("span"), { className: "name", textContent: tag });
    const part = Object.assign(document.createElement("span"), { className: "part" });
    const bar = Object.assign(document.createElement("i"), { className: "bar" });
    if (key) button.setAttribute("aria-keyshortcuts", key);
    cap.hidden = !key;
    button.append(cap, name, part, bar);
    return button;
  }

  #key(event) {
    // held down on a button, Enter would press it again and again
    if (event.key === "Enter" && event.repeat && event.target.closest?.(BUTTONS)) event.preventDefault();
    const asked = meaning(event, this.tags, this.chosen.size > 0);
    if (!asked) return;
    this.#pressedAt = event.timeStamp;
    if (asked.tag !== undefined) this.#tag(asked.tag, asked.more);
    else if (!this.#command(asked.command, event)) return;
    event.preventDefault();
  }

  #click(event) {
    const button = event.target.closest(BUTTONS);
    if (!button) return;
    if (event.detail > 0) {
      button.blur(); // else the next Enter or Space would press it again
      if (this.#bounces(event, button)) return;
    }
    this.#pressedAt = event.timeStamp;
    if (button.dataset.tag !== undefined) this.#tag(button.dataset.tag, event.shiftKey);
    else this.#command(button.dataset.command, event);
  }

  // the second click of a double click is not meant for the next image; a key has no pointer and never bounces
  #bounces(event, button) {
    const soon = event.timeStamp - this.#lastTap < BOUNCE_MS;
    this.#lastTap = event.timeStamp;
    const leaves = button.dataset.tag !== undefined ? !event.shiftKey : ONCE.includes(button.dataset.command);
    const twice = leaves && event.detail === 2;
    if (twice) announce(say("too_quick"));
    return soon || twice;
  }

  #tag(tag, more) {
    const chosen = new Set(this.chosen);
    if (more && chosen.has(tag)) chosen.delete(tag);
    else chosen.add(tag);
    if (more) return this.#choose(chosen);
    return this.#answer("tag", [...chosen]);
  }

  #choose(tags) {
    this.chosen = new Set(tags);
    for (const button of element("tags").children) {
      button.classList.toggle("chosen", this.chosen.has(button.dataset.tag));
    }
  }

  #command(command) {
    if (["none", "unsure", "junk"].includes(command)) this.#answer(command, []);
    else if (command === "newTag") this.#name();
    else if (command === "help") this.#help();
    else if (command === "send" && this.chosen.size) this.#answer("tag", [...this.chosen]);
    else if (command === "clear" && this.chosen.size) this.#choose([]);
    else return this.work.command(command);
    return true;
  }

  #answer(kind, tags) {
    const pressed = [...document.querySelectorAll(BUTTONS)].filter(
      (button) => tags.includes(button.dataset.tag) || button.dataset.command === kind,
    );
    if (!this.work.answer(kind, tags, this.#pressedAt)) return;
    this.#choose([]);
    for (const button of pressed) {
      button.classList.add("pressed");
      setTimeout(() => button.classList.remove("pressed"), 150);
    }
  }

  #help() {
    element("help").showModal();
  }

  #name() {
    element("naming-trouble").textContent = "";
    element("naming-name").value = "";
    element("naming").showModal();
  }

  async #named(event) {
    if (event.submitter?.value === "cancel") return;
    event.preventDefault();
    const name = oneForm(element("naming-name").value);
    if (!name) return;
    const trouble = await this.#addTag(name);
    element("naming-trouble").textContent = trouble;
    if (trouble || !element("naming").open) return;
    element("naming").close();
    this.#pressedAt = performance.now();
    this.#answer("tag", [this.#offered(name) ?? name]);
  }

  // a tag as it is written on the samples; undefined where there is none
  #offered(name) {
    return this.tags.find((one) => oneForm(one.tag) === name)?.tag;
  }

  // what is wrong, in words; nothing where it is there now
  async #addTag(tag) {
    if (this.#offered(tag)) return "";
    try {
      const { status, fields } = await post("/api/tags", { tag });
      if (status !== 200) return fields.message ?? say("refused", { why: status });
      this.#setTags(fields.tags);
      return "";
    } catch (error) {
      if (!(error instanceof Away || error instanceof SignedOut)) throw error;
      return say("needs_server");
    }
  }
}

// as the server writes what somebody typed
function oneForm(tag) {
  return tag.trim().replace(/\s+/gu, " ").normalize("NFC");
}

function helpRow({ tag, key }) {
  const row = document.createElement("div");
  const term = document.createElement("dt");
  term.append(Object.assign(document.createElement("kbd"), { textContent: key }));
  row.append(term, Object.assign(document.createElement("dd"), { textContent: tag }));
  return row;
}
