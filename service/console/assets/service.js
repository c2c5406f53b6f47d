// Requests to the service. Paths are relative, so that a proxy may add a prefix.

const KEY = "fingerpost-key"; // in sessionStorage, which ends with the tab

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

// Sends a request, and returns the JSON of its answer. `body`: a file, or what becomes JSON. Throws a `Problem`.
export async function ask(path, options) {
  return (await send(path, options)).json();
}

export async function askText(path, options) {
  return (await send(path, options)).text();
}

async function send(path, { method = "GET", headers = {}, body, signal } = {}) {
  const all = { ...headers };
  const file = body instanceof Blob;
  if (key()) all.Authorization = `Bearer ${key()}`;
  if (body !== undefined) all["Content-Type"] = file ? "application/octet-stream" : "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers: all, body: file ? body : JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { title: "The service does not answer" });
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  throw new Problem(answer.status, { ...problem, title: problem.title ?? `HTTP ${answer.status}` });
}

export function cellPath(cell, ...rest) {
  return ["cells", cell, ...rest].map(encodeURIComponent).join("/");
}

// An idempotency key, one for each change: a request sent again after a lost answer changes nothing twice.
export function freshKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
