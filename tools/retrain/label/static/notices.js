// What is told beside the work: gently, in the page's corner, and to screen readers.

const MOST = 3;
const STAYS_MS = 20000;

const place = document.getElementById("notices");
const told = document.getElementById("told");
const offline = document.getElementById("offline");

/** Say it to a screen reader. */
export function announce(text) {
  told.textContent = text;
}

/** The bar that stays while something is away; an empty text takes it down. */
export function standingTrouble(text) {
  if (offline.textContent !== text) offline.textContent = text;
  offline.hidden = !text;
}

/** A note that goes by itself unless it `stays`; `action` is {label, run} or {label, href}, `image` an address. */
export function note(text, { tone = "", action = null, stays = false, image = "", close }) {
  const box = document.createElement("div");
  box.className = `note ${tone}`;
  box.setAttribute("role", "status");
  if (image) box.append(Object.assign(new Image(56, 56), { alt: "", src: image }));
  box.append(Object.assign(document.createElement("p"), { textContent: text }));
  if (action) box.append(actionOf(action, box));
  const gone = Object.assign(document.createElement("button"), { className: "shut", textContent: "×" });
  gone.setAttribute("aria-label", close);
  gone.addEventListener("click", () => box.remove());
  box.append(gone);
  place.append(box);
  for (const old of [...place.querySelectorAll(".note")].slice(0, -MOST)) old.remove();
  if (!stays) goesLater(box);
}

function actionOf({ label, run, href }, box) {
  if (href) return Object.assign(document.createElement("a"), { className: "button small", textContent: label, href });
  const button = Object.assign(document.createElement("button"), { className: "small", textContent: label });
  button.addEventListener("click", () => {
    box.remove();
    run();
  });
  return button;
}

function goesLater(box) {
  setTimeout(() => (box.matches(":hover, :focus-within") ? goesLater(box) : box.remove()), STAYS_MS);
}
