// What the scripts say, in the language of the page.

const texts = JSON.parse(document.documentElement.dataset.words);

/** The text called `name`, with `values` in its places in braces. */
export function say(name, values = {}) {
  const text = texts[name];
  if (text === undefined) throw new Error(`there is no text called ${name}`);
  return text.replace(/\{(\w+)\}/g, (whole, place) => (place in values ? String(values[place]) : whole));
}

/** Why a device kept an image; its own word where that is a stranger. */
export function reasonInWords(reason) {
  return texts[`reason_${reason}`] ?? reason.replaceAll("_", " ");
}

/** A share of one as a percentage. */
export function percent(share) {
  return `${Math.round(share * 100)} %`;
}
