// On every page: choices that take effect at once, and answers that wait are sent.

import { Outbox, unsentOf } from "./outbox.js";
import { say } from "./words.js";

const { person } = document.documentElement.dataset;
if (person && !document.getElementById("unsent")) new Outbox(person).addEventListener("settled", tell); // else the desk's

function tell({ detail: { entry, status, fields } }) {
  if (entry.what !== "answer" || status < 400) return;
  const other = status === 404 ? say("gone") : say("refused", { why: fields.message ?? status });
  const textContent = status === 409 ? say("taken_many", { n: 1 }) : other;
  const told = Object.assign(document.createElement("p"), { className: "notice warn", textContent });
  told.setAttribute("role", "status");
  document.getElementById("main").prepend(told);
}

document.querySelector('form[action="/sign-out"]')?.addEventListener("submit", (event) => {
  const unsent = unsentOf(person);
  if (unsent && !confirm(say("sign_out_unsent", { unsent }))) event.preventDefault();
});

for (const field of document.querySelectorAll("[data-here]")) field.value = location.pathname + location.search;
for (const choice of document.querySelectorAll("[data-submits]")) {
  choice.addEventListener("change", () => choice.form.requestSubmit());
}
// on a telephone the pages are a row that scrolls
document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

const pages = document.querySelector(".top nav");
if (pages) {
  const tell = () => {
    const left = pages.scrollWidth - pages.clientWidth - pages.scrollLeft;
    pages.toggleAttribute("data-before", pages.scrollLeft > 4);
    pages.toggleAttribute("data-after", left > 4);
  };
  pages.addEventListener("scroll", tell, { passive: true });
  new ResizeObserver(tell).observe(pages);
}

const filters = document.querySelector("form[data-filters]");
if (filters) {
  const asked = new URLSearchParams(location.search);
  let narrowed = 0;
  for (const field of filters.elements) {
    if (!field.name || !asked.get(field.name)) continue;
    // what the page does not offer is asked for by hand, and stays in force
    if (field.tagName === "SELECT" && ![...field.options].some((option) => option.value === asked.get(field.name))) {
      field.append(new Option(asked.get(field.name), asked.get(field.name)));
    }
    field.value = asked.get(field.name);
    narrowed += 1;
  }
  const count = document.getElementById("filters-count");
  count.textContent = String(narrowed);
  count.hidden = !narrowed;
  filters.addEventListener("formdata", ({ formData }) => {
    for (const [name, value] of [...formData]) if (!value) formData.delete(name);
  });
}

for (const menu of document.querySelectorAll("details.menu")) {
  document.addEventListener("pointerdown", ({ target }) => menu.contains(target) || (menu.open = false));
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary").focus();
    event.preventDefault();
  });
}
