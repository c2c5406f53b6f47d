// What the service is asked, and what it says. Paths are relative, so that a proxy may add a prefix.

const KEY = "fingerpost-key"; // in sessionStorage: gone with the tab

export class Problem extends Error {
  constructor(status, { title, detail, cause }) {
    super(detail ? `${title}: ${detail}` : title);
    Object.assign(this, { status, title, detail, cause });
  }
}

export function key() {
  return sessionStorage.getItem(KEY) ?? "";
}

export function setKey(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

export async function ask(path, { method = "GET", headers = {}, body, signal } = {}) {
  const sent = { ...headers };
  if (key()) sent.Authorization = `Bearer ${key()}`;
  if (body !== undefined) sent["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers: sent, body: JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { title: "The service does not answer" });
  }
  if (answer.ok) return answer.json();
  const said = await answer.json().catch(() => ({}));
  throw new Problem(answer.status, { ...said, title: said.title ?? `HTTP ${answer.status}` });
}

export function cellPath(cell, ...rest) {
  return ["cells", cell, ...rest].map(encodeURIComponent).join("/");
}

// Once for each change that somebody means: asked again after a lost answer, nothing changes twice.
export function freshKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
