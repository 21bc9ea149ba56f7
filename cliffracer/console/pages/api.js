// The console's own HTTP. A refusal becomes a `Problem` with the service's words and, of bad input, every field.

import { parse } from "./dom.js";

export class Problem extends Error {
  constructor(status, document) {
    super(document.detail ?? document.title ?? `It was refused (${status}).`);
    this.status = status;
    this.title = document.title ?? "";
    this.errors = document.errors ?? [];
    this.id = document.error_id;
  }
}

async function answered(promise) {
  let reply;
  try {
    reply = await promise;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { title: "No answer", detail: "The console does not answer: does it still run?" });
  }
  if (reply.ok) return parse(await reply.text());
  let document = {};
  try {
    document = await reply.json();
  } catch {
    document = { detail: `The console answered ${reply.status}.` };
  }
  throw new Problem(reply.status, document);
}

export const get = (path, signal) => answered(fetch(`api/${path}`, { signal }));

export function post(path, body) {
  const headers = { "Content-Type": "application/json", "X-Cliffracer": "console" };
  return answered(fetch(`api/${path}`, { method: "POST", headers, body: JSON.stringify(body) }));
}

// Follows Server-Sent Events; returns what ends it. `lost` is told when the line breaks, and it comes back by itself.
export function follow(path, take, lost = () => {}) {
  const source = new EventSource(`api/${path}`);
  source.onmessage = (event) => take(parse(event.data));
  source.onerror = () => lost(source.readyState === EventSource.CLOSED);
  return () => source.close();
}
