// Which key does what. Letters mean the same in every language, and a tag's key is the one the server gave it.

const COMMANDS = {
  n: "none", u: "unsure", j: "junk", s: "skip", t: "newTag", z: "zoom", c: "contrast", a: "all",
  Backspace: "undo", Delete: "delete", "?": "help", "+": "larger", "=": "larger", "-": "smaller", Enter: "send", Escape: "clear",
};

/**
 * What a key press asks for: {command}, {tag, more} or null. `more` is true with Shift: another tag comes as well.
 * Enter presses the button it is on, but sends where tags are `chosen`.
 * Keys typed into a field, held down, or meant for the browser ask for nothing.
 */
export function meaning(event, tags, chosen = false) {
  if (event.defaultPrevented || event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) {
    return null;
  }
  if (meantElsewhere(event)) return null;
  if (event.key === "Enter" && !wasClosed(event.target) && event.target.closest?.("button, a, summary")) {
    return chosen && !event.shiftKey && event.target.closest("button[data-tag]") ? { command: "send" } : null;
  }
  const tag = tags.find((one) => one.key && pressed(event).includes(one.key));
  if (tag) return { tag: tag.tag, more: event.shiftKey };
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  return key in COMMANDS ? { command: COMMANDS[key] } : null;
}

// a digit with Shift, and one on a French keyboard without, is another character; the key's place tells. Beside them a
// key of digits may be an arrow instead
function pressed(event) {
  const digit = /^Digit(\d)$/.exec(event.code ?? "")?.[1];
  return digit ? [digit] : [event.key.toLowerCase()];
}

/** Is this key meant for an open dialog, or for the field it is typed into? */
export function meantElsewhere({ target }) {
  if (document.querySelector("dialog[open]")) return true;
  const field = target instanceof Element && target.matches("input, select, textarea, [contenteditable]");
  return field && !wasClosed(target);
}

// what stands in a dialog keeps the focus after the dialog is closed, until the browser draws the page again: a key
// pressed before that is meant for the page
function wasClosed(target) {
  return target instanceof Element && target.closest("dialog:not([open])") !== null;
}
