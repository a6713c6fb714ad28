// Many at once: images that look alike, labelled with one key; the odd ones are taken out first. What does not look like
// the first one stands apart, and is picked by nobody but the person.

import { Desk, element, inWords } from "./desk.js";
import { meantElsewhere } from "./keys.js";
import { announce } from "./notices.js";
import { post } from "./server.js";
import { GLANCE_MS } from "./sheet.js";
import { percent, say } from "./words.js";

const FEWEST = 6;
const MOST = 60; // that the server hands out together
const KEPT = 20; // presses that can be undone
const AGAIN_MS = 5000;
const SIZES = [96, 128, 168, 220, 300];
const NARROW_PX = 600;
const SIZE_KEPT = "ripeloop-tile";

const tiles = element("tiles");
const others = Object.assign(document.createElement("p"), { className: "others-words", textContent: say("others") });
others.setAttribute("aria-hidden", "true"); // each image's own state tells it
const before = [];
let next = null; // the group after this one, and its pictures, fetched meanwhile
let asking = false;
let later = 0;
let shownAt = 0;
let said = "";
let groups = 0; // of look-alikes, so far
let size = Math.min(Number(localStorage.getItem(SIZE_KEPT) ?? 2) || 0, SIZES.length - 1);

// seen: half of it was there, or it filled half of the room
const watcher = new IntersectionObserver(
  (entries) => {
    for (const { target, intersectionRatio, intersectionRect, rootBounds } of entries) {
      target.seen ||= intersectionRatio >= 0.5 || intersectionRect.height >= rootBounds.height / 2;
    }
  },
  { root: tiles, threshold: [0, 0.25, 0.5, 0.75] },
);
const desk = new Desk({ answer, command, settled, reached: ask });

function answer(kind, tags, pressedAt) {
  const picked = all().filter((tile) => isPicked(tile) && !(tile.sample.broken && kind === "tag"));
  if (!picked.length) return hint(all().length ? "none_picked" : "nothing_here");
  // nobody answers for what has not been on the screen
  const unseen = picked.find((tile) => !tile.seen);
  if (unseen) {
    unseen.scrollIntoView({ block: "start" });
    return hint("look_below");
  }
  if (!picked.every(isLoaded)) return hint("still_loading");
  if (pressedAt - shownAt < GLANCE_MS) return hint("too_quick");
  const ms = Math.round((performance.now() - shownAt) / picked.length);
  const what = inWords(kind, tags);
  const done = picked.map((tile) => {
    const { key, blob, asked, seen } = tile.sample;
    return { tile, id: desk.outbox.answer({ key, blob, kind, tags, asked, seen, mode: "grid", ms }) };
  });
  leave(done, `${what} × ${done.length}`);
  announce(say("labelled_many", { what, n: done.length }));
  return true;
}

function hint(name) {
  announce(say(name));
  element("group").textContent = say(name);
  return false;
}

function command(name) {
  if (name === "skip") skip();
  else if (name === "undo") undo();
  else if (name === "all") pickAll();
  else if (name === "larger") resize(1);
  else if (name === "smaller") resize(-1);
  else return false;
  return true;
}

function skip() {
  const picked = all().filter(isPicked);
  for (const tile of picked) desk.outbox.skip(tile.sample.key);
  if (picked.length) leave(picked.map((tile) => ({ tile, id: null })), say("skipped"));
}

function undo() {
  const last = before.pop();
  if (!last) return announce(say("nothing_to_undo"));
  for (const { tile, id } of last.done) if (id) desk.outbox.undo(id, tile.sample.key);
  for (const tile of all()) pick(tile, false);
  for (const { tile } of last.done) pick(tile, true);
  tiles.prepend(...last.done.map(({ tile }) => tile));
  showState();
  focusOn(0);
  return announce(say("undone", { what: last.what }));
}

function leave(done, what) {
  before.push({ done, what });
  if (before.length > KEPT) before.shift();
  for (const { tile } of done) tile.remove();
  pickAlike();
  said = "";
  shownAt = performance.now();
  if (!all().length) turn();
  showState();
  focusOn(0);
  ask();
}

// on to the group that waits
function turn() {
  if (!next) return;
  tiles.replaceChildren(...next);
  next = null;
  pickAlike();
  tiles.scrollTop = 0;
  shownAt = performance.now();
}

async function ask() {
  clearTimeout(later);
  if (asking || next) return;
  asking = true;
  const have = new Set([...all().map((tile) => tile.sample.key), ...desk.outbox.keys]);
  const query = new URLSearchParams(location.search);
  query.set("mode", "grid");
  query.set("n", String(fitting()));
  query.set("have", [...have].slice(0, 120).join(","));
  const told = await desk.ask(`/api/next?${query}`);
  asking = false;
  const known = new Set([...all().map((tile) => tile.sample.key), ...desk.outbox.keys]);
  const fresh = grouped(told ?? {}).filter(({ sample }) => !known.has(sample.key));
  if (fresh.length) next = fresh.map(tileOf);
  desk.stands(told?.standing);
  if (!all().length && next) {
    turn();
    focusOn(0);
    ask();
  } else if (!next) later = setTimeout(ask, AGAIN_MS);
  showState();
}

// each sample with the number of its group
function grouped({ samples = [], groups: sizes = [] }) {
  const numbers = sizes.flatMap((many) => Array(many).fill(groups++));
  return samples.map((sample, nth) => ({ sample, group: numbers[nth] }));
}

function tileOf({ sample, group }) {
  const tile = document.createElement("div");
  Object.assign(tile, { sample, group });
  tile.className = "tile";
  tile.setAttribute("role", "option");
  tile.tabIndex = -1;
  const [best] = [...sample.predictions].sort((one, other) => other.probability - one.probability);
  const words = best ? `${best.tag} ${percent(best.probability)}` : "";
  const picture = Object.assign(new Image(), { alt: "", decoding: "async", draggable: false });
  picture.src = `${sample.image}?w=320`;
  const mark = Object.assign(document.createElement("span"), { className: "mark" });
  const caption = Object.assign(document.createElement("span"), { className: "words", textContent: words });
  mark.setAttribute("aria-hidden", "true");
  tile.setAttribute("aria-label", [say("picture"), words, sample.device].filter(Boolean).join(", "));
  tile.append(picture, mark, caption);
  watcher.observe(tile);
  pick(tile, false);
  return tile;
}

function all() {
  return [...tiles.querySelectorAll(".tile")];
}

// the first one and what looks like it
function alike() {
  const [first, ...rest] = all();
  const end = rest.findIndex((tile) => tile.group !== first.group);
  return first ? [first, ...(end < 0 ? rest : rest.slice(0, end))] : [];
}

function isPicked(tile) {
  return tile.getAttribute("aria-selected") === "true";
}

function isLoaded(tile) {
  const picture = tile.querySelector("img");
  return picture.complete && picture.naturalWidth > 0;
}

function pick(tile, on) {
  tile.setAttribute("aria-selected", String(on));
}

function pickAlike() {
  const together = new Set(alike());
  for (const tile of all()) pick(tile, together.has(tile));
}

function pickAll() {
  const on = !all().every(isPicked);
  for (const tile of all()) pick(tile, on);
  showState();
}

function toggle(tile) {
  pick(tile, !isPicked(tile));
  showState();
}

function showOthers() {
  const together = new Set(alike());
  for (const tile of all()) tile.classList.toggle("apart", !together.has(tile));
  const other = all()[together.size];
  if (!other) return others.remove();
  return others.nextElementSibling === other || other.before(others);
}

function showState() {
  showOthers();
  const [count, picked] = [all().length, all().filter(isPicked).length];
  desk.idle(!count);
  const words = count ? say("picked", { picked, n: count }) : "";
  if (words !== said) element("group").textContent = words; // else a hint may stand there
  said = words;
  const calm = count ? "" : say(desk.whyNothing(asking, "all_done"));
  element("calm").textContent = calm;
  element("calm").hidden = !calm;
  const last = before.at(-1);
  element("last").hidden = !last;
  element("last").replaceChildren(Object.assign(document.createElement("b"), { textContent: last?.what ?? "" }));
  document.querySelector('[data-command="undo"]').disabled = !last;
}

function settled({ entry, status }) {
  if (status !== 409) return;
  for (const batch of before) batch.done = batch.done.filter(({ id }) => id !== entry.body.id);
}

function resize(by) {
  size = Math.min(Math.max(size + by, 0), SIZES.length - 1);
  localStorage.setItem(SIZE_KEPT, String(size));
  showSize();
}

function showSize() {
  tiles.style.setProperty("--tile", `${pixels()}px`);
}

// a telephone has room for smaller ones
function pixels() {
  return Math.round(SIZES[size] * (tiles.clientWidth < NARROW_PX ? 0.6 : 1));
}

function focusOn(nth) {
  const one = all()[Math.min(Math.max(nth, 0), all().length - 1)];
  for (const tile of all()) tile.tabIndex = tile === one ? 0 : -1;
  one?.focus({ preventScroll: nth === 0 });
}

// as many as one look takes in
function fitting() {
  const side = pixels() + 10;
  const [across, down] = [Math.floor(tiles.clientWidth / side), Math.floor(tiles.clientHeight / side)];
  return Math.min(Math.max(across * down, FEWEST), MOST);
}

// the nearest one in the row above (-1) or below (1); the same where there is none
function beyond(nth, way) {
  const found = all();
  const here = found[nth];
  const rest = found.filter((tile) => Math.sign(tile.offsetTop - here.offsetTop) === way);
  const far = (tile) => [Math.abs(tile.offsetTop - here.offsetTop), Math.abs(tile.offsetLeft - here.offsetLeft)];
  rest.sort((one, other) => far(one)[0] - far(other)[0] || far(one)[1] - far(other)[1]);
  return rest.length ? found.indexOf(rest[0]) : nth;
}

tiles.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const nth = all().indexOf(document.activeElement);
  if (nth < 0) return;
  const steps = {
    ArrowLeft: () => nth - 1, ArrowRight: () => nth + 1, Home: () => 0, End: () => all().length,
    ArrowUp: () => beyond(nth, -1), ArrowDown: () => beyond(nth, 1),
  };
  if (event.key === " ") toggle(all()[nth]);
  else if (event.key in steps) focusOn(steps[event.key]());
  else return;
  event.preventDefault();
});
tiles.addEventListener("click", ({ target }) => {
  const tile = target.closest(".tile");
  if (!tile) return;
  focusOn(all().indexOf(tile));
  toggle(tile);
});
// arrows find the images from wherever the focus is
document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || !event.key.startsWith("Arrow") || meantElsewhere(event)) return;
  if (event.target.closest("summary, .tile")) return;
  focusOn(0);
  event.preventDefault();
});
addEventListener("pagehide", () => {
  const keys = [...all(), ...(next ?? [])].map((tile) => tile.sample.key);
  if (keys.length) post("/api/release", { keys }).catch(() => {}); // a lease ends by itself as well
});
addEventListener("pageshow", ({ persisted }) => persisted && location.reload());

showSize();
await desk.start();
ask();
showState();
