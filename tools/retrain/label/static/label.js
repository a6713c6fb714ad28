// One image at a time. The next ones are fetched and decoded ahead, so that a press shows the next at once.

import { Desk, element, inWords } from "./desk.js";
import { announce, note } from "./notices.js";
import { Away, post, SignedOut } from "./server.js";
import { Sheet, widthFor } from "./sheet.js";
import { View } from "./view.js";
import { percent, reasonInWords, say } from "./words.js";

const KEPT = 40; // answers that can be undone
const KEPT_DECODED = 8; // of those, with the picture still at hand
const AGAIN_MS = 5000;

const stage = element("stage");
const mode = stage.dataset.mode;
const width = widthFor(element("pane"));
const ahead = [];
const before = [];
let current = null;
let shownAt = 0;
let asking = false;
let later = 0;

const desk = new Desk({ answer, command, settled, look, reached });
const view = new View(element("pane"), element("frames"), { swiped, zoomed });

function answer(kind, tags, pressedAt) {
  const began = performance.now();
  const hindrance = current ? current.hinders(kind, pressedAt - shownAt) : "nothing_here";
  if (hindrance) {
    announce(say(hindrance));
    return false;
  }
  const { key, blob, asked, seen } = current.sample;
  const ms = Math.round(began - shownAt);
  const id = desk.outbox.answer({ key, blob, kind, tags, asked, seen, mode: current.mode, ms });
  if (desk.left) desk.left -= 1;
  const what = inWords(kind, tags);
  leave({ sheet: current, id, what });
  announce(say("labelled", { what }));
  measure(began);
  return true;
}

function command(name) {
  if (name === "skip") return skip();
  if (name === "undo") return undo();
  if (name === "zoom") view.toggle();
  else if (name === "contrast") element("contrast-name").textContent = say(`light_${view.nextContrast()}`);
  else if (name === "delete" && deleting && current) {
    deleting.returnValue = ""; // it would keep what was said last time
    deleting.showModal();
  } else if (name === "clear" && view.closer) view.reset();
  else return false;
  return true;
}

async function remove() {
  const gone = current;
  try {
    const { status, fields } = await post("/api/delete", { key: gone.sample.key });
    if (status !== 200) return note(say("refused", { why: fields.message }), { tone: "warn", close: say("close") });
  } catch (error) {
    if (!(error instanceof Away || error instanceof SignedOut)) throw error;
    return note(say("needs_server"), { tone: "warn", close: say("close") });
  }
  announce(say("deleted"));
  gone.drop();
  if (gone === current) advance();
  return undefined;
}

function skip() {
  if (!current) return true;
  desk.outbox.skip(current.sample.key);
  leave({ sheet: current, id: null, what: say("skipped") });
  announce(say("skipped"));
  return true;
}

function undo() {
  const last = before.pop();
  if (!last) {
    announce(say("nothing_to_undo"));
    return true;
  }
  if (last.id) desk.outbox.undo(last.id, last.sheet.sample.key);
  if (current) {
    current.hide();
    ahead.unshift(current);
  }
  current = last.sheet;
  if (!current.picture.isConnected) current.load(element("frames"), width);
  show();
  showLast();
  announce(say("undone", { what: last.what }));
  return true;
}

function swiped(direction) {
  if (direction === "left") skip();
  else undo();
}

function zoomed(zoom) {
  document.querySelector('[data-command="zoom"]').setAttribute("aria-pressed", String(zoom > 1));
  if (zoom > 1) current?.sharpen();
}

function leave(entry) {
  current.hide();
  before.push(entry);
  if (before.length > KEPT) before.shift();
  before.at(-1 - KEPT_DECODED)?.sheet.drop();
  advance();
  showLast();
}

function advance() {
  current = ahead.shift() ?? null;
  show();
  ask();
}

function show() {
  view.reset();
  shownAt = performance.now();
  const sample = current?.sample;
  element("facts").textContent = sample ? facts(sample) : "";
  desk.suggest(sample?.predictions ?? []);
  element("opinion").replaceChildren(...(sample ? opinion(sample) : []));
  current?.show();
  showCalm();
}

// what stands in the picture's place while there is none
function showCalm() {
  desk.idle(!current);
  let text = "";
  if (!current) text = say(desk.whyNothing(asking, mode === "review" ? "review_done" : "all_done"));
  else if (current.state === "loading") text = say("loading");
  else if (current.state === "broken") text = say("no_picture");
  else if (current.sample.broken) text = say("damaged");
  element("calm").textContent = text;
  element("calm").hidden = !text;
}

function showLast() {
  const last = before.at(-1);
  const chip = element("last");
  chip.hidden = !last;
  document.querySelector('[data-command="undo"]').disabled = !last;
  if (!last) return chip.replaceChildren();
  const thumb = new Image(40, 40);
  thumb.alt = "";
  thumb.src = last.sheet.picture.src;
  const words = Object.assign(document.createElement("b"), { textContent: last.what });
  return chip.replaceChildren(thumb, words);
}

function facts(sample) {
  const language = document.documentElement.lang;
  const own = navigator.languages.find((one) => one.startsWith(language)) ?? language; // with the country's ways
  const format = new Intl.DateTimeFormat(own, { dateStyle: "medium", timeStyle: "short" });
  const taken = Date.parse(sample.capturedAt);
  const reason = reasonInWords(sample.reason);
  return [sample.device, sample.camera, Number.isNaN(taken) ? "" : format.format(taken), reason]
    .filter(Boolean)
    .join(" · ");
}

function opinion(sample) {
  if (current.mode === "review" && sample.answers?.length) return sample.answers.map(answerOf);
  const [best] = [...sample.predictions].sort((one, other) => other.probability - one.probability);
  const text = best ? say("suggestion", { tag: best.tag, part: percent(best.probability) }) : say("no_suggestion");
  return [Object.assign(document.createElement("p"), { textContent: text })];
}

function answerOf({ kind, tags, by, mine }) {
  const row = document.createElement("p");
  const who = mine ? say("you") : by || say("somebody");
  row.append(`${who}: `, Object.assign(document.createElement("b"), { textContent: inWords(kind, tags ?? []) }));
  return row;
}

async function ask() {
  clearTimeout(later);
  if (asking || ahead.length > desk.prefetch / 2) return;
  asking = true;
  const have = [...new Set([...shownKeys(), ...desk.outbox.keys])];
  const query = new URLSearchParams(location.search);
  query.set("mode", mode);
  query.set("n", String(desk.prefetch - ahead.length));
  query.set("have", have.slice(0, 120).join(","));
  const told = await desk.ask(`/api/next?${query}`);
  asking = false;
  for (const sample of told?.samples ?? []) take(sample);
  if (told && (mode === "review" || location.search)) desk.left = told.left;
  desk.stands(told?.standing);
  if (!current && ahead.length) {
    current = ahead.shift();
    show();
    ask();
  } else if (!current || !told) later = setTimeout(ask, AGAIN_MS);
  showCalm();
}

function shownKeys() {
  return [...(current ? [current] : []), ...ahead].map((sheet) => sheet.sample.key);
}

function take(sample) {
  if (shownKeys().includes(sample.key) || desk.outbox.keys.includes(sample.key)) return;
  ahead.push(sheetOf(sample));
}

function sheetOf(sample) {
  const sheet = new Sheet(sample, say("picture"));
  sheet.mode = mode;
  sheet.changed = () => {
    if (sheet !== current) return;
    shownAt = performance.now();
    showCalm();
  };
  sheet.load(element("frames"), width);
  return sheet;
}

function settled({ entry, status, fields }) {
  if (status === 409) {
    const nth = before.findIndex(({ id }) => id === entry.body.id);
    if (nth >= 0) before.splice(nth, 1)[0].sheet.drop();
    showLast();
  }
  if (entry.what === "undo" && fields.sample) refresh(entry.body.key, fields.sample);
}

// an image that came back carries what the server now knows of it
async function refresh(key, sample) {
  const sheet = [current, ...ahead].find((one) => one?.sample.key === key);
  if (sheet) Object.assign(sheet.sample, sheet.mode === "review" ? await desk.ask(`/api/sample/${key}`) : sample);
}

// what others said of it is seen now, so the answer is a decision
async function look({ key }) {
  const sample = await desk.ask(`/api/sample/${key}`);
  if (!sample) return;
  if (current) {
    current.hide();
    ahead.unshift(current);
  }
  current = sheetOf(sample);
  current.mode = "review";
  show();
}

function reached() {
  for (const sheet of [current, ...ahead]) if (sheet?.state === "broken") sheet.load(element("frames"), width);
  ask();
}

// from the press to the next image on the screen, for anybody who wants to know
function measure(began) {
  requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => performance.measure("next image", { start: began, end: performance.now() });
    port2.postMessage(null);
  });
}

// admins alone have it
const deleting = document.getElementById("deleting");
deleting?.addEventListener("close", () => deleting.returnValue === "delete" && remove());

addEventListener("pagehide", () => {
  const keys = shownKeys();
  if (keys.length) post("/api/release", { keys }).catch(() => {}); // a lease ends by itself as well
});
addEventListener("pageshow", ({ persisted }) => persisted && location.reload());

await desk.start();
ask();
showCalm();
