// Labels that a model doubts, one after the other: k keeps the label, m takes the model's, a tag's key says another.

import { Desk, element, inWords } from "./desk.js";
import { meantElsewhere } from "./keys.js";
import { announce } from "./notices.js";
import { Sheet, widthFor } from "./sheet.js";
import { View } from "./view.js";
import { percent, say } from "./words.js";

const AHEAD = 6;
const KEPT = 20; // answers that can be undone
const MOST_TOLD = 150;
const AGAIN_MS = 10000;

const width = widthFor(element("pane"));
const ahead = [];
const before = [];
const passed = new Set(); // decided or skipped here: not asked for again
let current = null;
let shownAt = 0;
let asking = false;
let later = 0;
let left = 0;
let newer = null;
let negative = "";

const desk = new Desk({ answer, command, settled, reached });
const view = new View(element("pane"), element("frames"), { swiped: (way) => (way === "left" ? skip() : undo()), zoomed });

// before the desk's own keys: here k and m always mean these two
document.addEventListener("keydown", (event) => {
  const wish = { k: "keep", m: "take" }[event.key?.toLowerCase()];
  if (!wish || meantElsewhere(event) || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  command(wish);
}, { capture: true });

function answer(kind, tags, pressedAt) {
  const hindrance = current ? current.hinders(kind, pressedAt - shownAt) : "nothing_here";
  if (hindrance) {
    announce(say(hindrance));
    return false;
  }
  const { key, blob, asked, seen } = current.sample;
  const ms = Math.round(performance.now() - shownAt);
  const id = desk.outbox.answer({ key, blob, kind, tags, asked, seen, mode: "review", ms });
  const what = inWords(kind, tags);
  leave({ sheet: current, id, what });
  announce(say("labelled", { what }));
  return true;
}

function command(name) {
  if (name === "keep" || name === "take") {
    if (current) answer(...answerFor(name === "keep" ? current.doubt.label : current.doubt.says), performance.now());
  } else if (name === "skip") skip();
  else if (name === "undo") undo();
  else if (name === "zoom") view.toggle();
  else if (name === "contrast") element("contrast-name").textContent = say(`light_${view.nextContrast()}`);
  else if (name === "clear" && view.closer) view.reset();
  else return false;
  return true;
}

// the negative tag is how a model says "none of these"
function answerFor(tag) {
  return tag === negative ? ["none", []] : ["tag", [tag]];
}

function inTags(tag) {
  return inWords(...answerFor(tag));
}

function skip() {
  if (current) leave({ sheet: current, id: null, what: say("skipped") });
}

function undo() {
  const last = before.pop();
  if (!last) return announce(say("nothing_to_undo"));
  if (last.id) desk.outbox.undo(last.id, last.sheet.sample.key);
  passed.delete(last.sheet.sample.key);
  if (current) {
    current.hide();
    ahead.unshift(current);
  }
  current = last.sheet;
  left += 1;
  if (!current.picture.isConnected) current.load(element("frames"), width);
  show();
  return announce(say("undone", { what: last.what }));
}

function zoomed(zoom) {
  document.querySelector('[data-command="zoom"]').setAttribute("aria-pressed", String(zoom > 1));
}

function leave(entry) {
  current.hide();
  passed.add(current.sample.key);
  before.push(entry);
  if (before.length > KEPT) before.shift().sheet.drop();
  left = Math.max(0, left - 1);
  current = ahead.shift() ?? null;
  show();
  ask();
}

function show() {
  view.reset();
  shownAt = performance.now();
  desk.suggest(current?.doubt.predictions ?? []);
  element("facts").textContent = current ? facts(current) : "";
  element("opinion").replaceChildren(...(current ? question(current.doubt) : []));
  current?.show();
  const last = before.at(-1);
  element("last").hidden = !last;
  element("last").replaceChildren(Object.assign(document.createElement("b"), { textContent: last?.what ?? "" }));
  document.querySelector('[data-command="undo"]').disabled = !last;
  showCalm();
}

function showCalm() {
  desk.idle(!current);
  let why = "";
  if (!current) why = say(desk.whyNothing(asking, "mistakes_done"));
  else if (current.state === "loading") why = say("loading");
  else if (current.state === "broken") why = say("no_picture");
  else if (current.sample.broken) why = say("damaged");
  element("calm").textContent = why;
  element("calm").hidden = !why;
}

function facts({ sample }) {
  const told = [say("mistakes_left", { n: left.toLocaleString(document.documentElement.lang) }), sample.device];
  if (newer?.why) told.push(newer.why);
  else if (newer && newer.done < newer.of) told.push(say("mistakes_asking", { ...newer }));
  return told.join(" · ");
}

function question({ label, says, ofLabel, ofSays, model, unseen }) {
  const who = newer && newer.version === model ? "mistakes_newer" : "mistakes_model";
  const lines = [
    line(say("mistakes_label", { part: percent(ofLabel) }), inTags(label), "k", "keep", say("mistakes_keep")),
    line(say("mistakes_says", { model: say(who), part: percent(ofSays) }), inTags(says), "m", "take", say("mistakes_take")),
  ];
  lines[1].title = model; // its version: an iteration's id is too long to read
  if (!unseen) lines.push(text("p", "pill warn", say("mistakes_learned")));
  return lines;
}

function line(who, what, key, wish, does) {
  const row = text("div", "doubt", "");
  const button = text("button", "", "");
  button.dataset.command = wish;
  button.setAttribute("aria-keyshortcuts", key);
  button.append(text("kbd", "", key), text("span", "", does));
  const words = text("p", "", `${who} `);
  words.append(text("b", "", what));
  row.append(words, button);
  return row;
}

function text(kind, className, textContent) {
  return Object.assign(document.createElement(kind), { className, textContent });
}

function reached() {
  for (const sheet of [current, ...ahead]) if (sheet?.state === "broken") sheet.load(element("frames"), width);
  ask();
}

async function ask() {
  clearTimeout(later);
  if (asking || ahead.length > AHEAD / 2) return;
  asking = true;
  const have = [...new Set([...shownKeys(), ...desk.outbox.keys, ...[...passed].reverse()])].slice(0, MOST_TOLD);
  const told = await desk.ask(`/api/mistakes?n=${AHEAD}&have=${have.join(",")}`);
  asking = false;
  if (told) {
    ({ newer, negative } = told);
    left = told.left + shownKeys().length;
  }
  for (const doubt of told?.mistakes ?? []) take(doubt);
  if (!current && ahead.length) {
    current = ahead.shift();
    show();
  } else if (!current || !told) later = setTimeout(ask, AGAIN_MS);
  if (current) element("facts").textContent = facts(current);
  showCalm();
}

function shownKeys() {
  return [...(current ? [current] : []), ...ahead].map((sheet) => sheet.sample.key);
}

function take(doubt) {
  if (shownKeys().includes(doubt.key) || passed.has(doubt.key)) return;
  const sheet = new Sheet(doubt.sample, say("picture"));
  sheet.doubt = doubt;
  sheet.changed = () => {
    if (sheet !== current) return;
    shownAt = performance.now();
    showCalm();
  };
  sheet.load(element("frames"), width);
  ahead.push(sheet);
}

function settled({ entry, fields }) {
  const sheet = [current, ...ahead].find((one) => one?.sample.key === entry.body.key);
  if (entry.what === "undo" && fields.sample && sheet) Object.assign(sheet.sample, fields.sample);
}

await desk.start();
ask();
showCalm();
