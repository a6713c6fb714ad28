// Asking the server. What it cannot answer now is `Away`; ask again later, the same way.

export const LIMIT_MS = 15000;

/** Nobody answered, or the server says that it cannot for now. */
export class Away extends Error {}

/** Nobody is signed in, or not the one whose page this is; `reason` as the server said. */
export class SignedOut extends Error {
  constructor(reason) {
    super(reason);
    this.reason = reason;
  }
}

let token = document.querySelector('meta[name="csrf"]')?.content ?? "";

/** The answer as {status, fields}. Throws Away and SignedOut. */
export function get(address) {
  return ask(address, {});
}

/** As `get`; it is sent even when the page is closed meanwhile. */
export async function post(address, body) {
  const sent = { method: "POST", body: JSON.stringify(body), keepalive: true };
  const headers = () => ({ "Content-Type": "application/json", "X-CSRF-Token": token });
  try {
    return await ask(address, { ...sent, headers: headers() });
  } catch (error) {
    if (error.reason !== "csrf") throw error;
    // who signed in again in another tab has a new token; somebody else who did does not answer in this one's name
    const { fields } = await ask("/api/start", {});
    if (fields.person.name !== document.documentElement.dataset.person) throw new SignedOut("other");
    token = fields.csrf;
    return ask(address, { ...sent, headers: headers() });
  }
}

async function ask(address, options) {
  try {
    const signal = AbortSignal.timeout(LIMIT_MS);
    const reply = await fetch(address, { credentials: "same-origin", redirect: "error", signal, ...options });
    if (reply.status >= 500 || reply.status === 408 || reply.status === 429) throw new Away(String(reply.status));
    const fields = await reply.json();
    if (reply.status === 401 || reply.status === 403) throw new SignedOut(fields.error);
    return { status: reply.status, fields };
  } catch (error) {
    if (error instanceof SignedOut) throw error;
    throw new Away(String(error), { cause: error });
  }
}
