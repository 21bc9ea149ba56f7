// Forms that try an operation, and what came back.
import { called, emitted, quoted } from "./commands.js";
import { copier, h, json, told } from "./dom.js";
import { field, form, resolve } from "./form.js";

const BRIDGE = document.documentElement.dataset.bridge;
const MOST = 500_000;

function trial(title, parts, actions, answer) {
  return h("form.stack", { onsubmit: (event) => event.preventDefault(), "aria-label": title, novalidate: true }, h("h3", {}, title), ...parts,
    h("div.row", {}, ...actions), answer);
}

function authorized(token) {
  return token() ? { Authorization: `Bearer ${token()}` } : {};
}

// Sends a request and shows the answer as it comes; `place` puts the errors of an InvalidInput beside their fields.
async function send(answer, stop, place, make) {
  place([]);
  const abort = new AbortController();
  answer.replaceChildren(h("p.quiet", { role: "status" }, "Waiting …"));
  stop.hidden = false;
  stop.onclick = () => abort.abort();
  const began = performance.now();
  try {
    const [url, options] = make();
    const reply = await fetch(url, { ...options, signal: abort.signal });
    const tone = reply.ok ? "good" : "bad";
    const took = h("span.quiet");
    const body = h("pre.code", { tabindex: "0", "aria-label": "Answer" });
    answer.replaceChildren(h("p.row", { role: "status" }, h(`span.chip.${tone}`, {}, `${reply.status} ${reply.statusText}`), took), body);
    const text = await read(reply, body);
    took.textContent = `${Math.round(performance.now() - began)} ms`;
    finish(reply, text, body, answer, place);
  } catch (error) {
    answer.replaceChildren(h("p.notice.bad", { role: "alert" }, error.name === "AbortError" ? "Stopped." : told(error)));
  } finally {
    stop.hidden = true;
  }
}

async function read(reply, body) {
  const decoder = new TextDecoder();
  let text = "";
  if (!reply.body) return text;
  for await (const chunk of chunks(reply.body.getReader())) {
    if (text.length < MOST) text += decoder.decode(chunk, { stream: true });
    body.textContent = text;
  }
  return text;
}

async function* chunks(reader) {
  for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
}

function finish(reply, text, body, answer, place) {
  const kind = reply.headers.get("content-type") ?? "";
  if (!text) body.replaceWith(h("p.quiet", {}, "Nothing was sent back."));
  else if (kind.includes("json") && !kind.includes("ndjson")) body.replaceChildren(json(text));
  const correlation = reply.headers.get("x-correlation-id");
  if (correlation) answer.append(h("p.quiet", {}, "correlation id ", h("code", {}, correlation)));
  if (reply.status !== 422) return;
  try {
    place(JSON.parse(text).errors ?? []);
  } catch {
    return; // a handler's own answer, of another form
  }
}

function buttons(label, act, copies) {
  const stop = h("button", { type: "button", hidden: true }, "Stop");
  const go = h("button.primary", { type: "submit", onclick: () => act(stop) }, label);
  return [go, stop, ...copies.map(([name, text]) => copier(() => {
    try {
      return text();
    } catch (error) {
      return error.message;
    }
  }, name))];
}

export function tryHttp(entry, token) {
  const fields = entry.parameters.filter((one) => one.in !== "cookie").map((one) => [one, field(one.name, one.schema, { root: entry.root, path: one.name, required: one.required })]);
  const [kind, content] = Object.entries(entry.body?.content ?? {})[0] ?? [];
  const multipart = kind === "multipart/form-data";
  const body = content && !multipart ? form(content.schema, entry.root) : null;
  const files = multipart ? uploads(resolve(content.schema, entry.root), entry.root) : null;

  function request() {
    let path = entry.path;
    const query = new URLSearchParams();
    const headers = authorized(token);
    for (const [parameter, one] of fields) {
      const value = one.value();
      if (value === undefined) continue;
      if (parameter.in === "path") path = path.replace(`{${parameter.name}}`, value.toString().split("/").map(encodeURIComponent).join("/"));
      else if (parameter.in === "query") for (const each of [value].flat()) query.append(parameter.name, shown(each));
      else headers[parameter.name] = shown(value);
    }
    const missing = path.match(/{(\w+)}/);
    if (missing) throw new Error(`${missing[1]} is missing: it is part of the path.`);
    const options = { method: entry.method, headers };
    if (body) {
      headers["Content-Type"] = "application/json";
      options.body = JSON.stringify(body.value() ?? null);
    }
    if (files) options.body = files.value();
    return [`.${path}${query.size ? `?${query}` : ""}`, options];
  }
  function place(errors) {
    const left = body ? body.show(errors) : errors;
    for (const [parameter, one] of fields) one.node.querySelector(".why").textContent = left.find((error) => error.path === parameter.name)?.message ?? "";
  }
  function curl() {
    const [url, { method, headers, body: sent }] = request();
    const parts = ["curl", ...(method === "GET" ? [] : ["-X", method]), ...Object.entries(headers).flatMap(([name, value]) => ["-H", quoted(`${name}: ${value}`)])];
    if (typeof sent === "string") parts.push("-d", quoted(sent));
    return [...parts, quoted(new URL(url, document.baseURI).href)].join(" ");
  }
  const answer = h("div.answer");
  const parts = [...fields.map(([, one]) => one.node), body?.node, body?.toggle && h("div", {}, body.toggle), files?.node];
  return trial("Try it", parts, buttons("Send", (stop) => send(answer, stop, place, request), files ? [] : [["Copy as curl", curl]]), answer);
}

function uploads(schema, root) {
  const fields = Object.entries(schema.properties).map(([name, each]) => {
    const one = each.items ?? each;
    if (one.contentMediaType) {
      const input = h("input", { type: "file", multiple: Boolean(each.items), "aria-label": name });
      return { name, node: h("div.field", {}, h("div.name", {}, h("code", {}, name)), input), values: () => [...input.files] };
    }
    const made = field(name, each, { root, path: name, required: schema.required?.includes(name) });
    return { name, node: made.node, values: () => [made.value()].flat().filter((value) => value !== undefined).map(shown) };
  });
  function value() {
    const data = new FormData();
    for (const one of fields) for (const each of one.values()) data.append(one.name, each);
    return data;
  }
  return { node: h("div.stack", {}, fields.map((one) => one.node)), value };
}

function shown(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}

function bridged(path, body, token) {
  return [path, { method: "POST", headers: { "Content-Type": "application/json", "X-Cliffracer": "docs", ...authorized(token) }, body: JSON.stringify(body) }];
}

function unbridged(what) {
  return h("p.notice", {}, `A browser cannot speak NATS. In development this page ${what} through the service; here, copy the command.`);
}

export function tryRpc(entry, token) {
  const made = form(entry.request, entry.root);
  const answer = h("div.answer");
  const command = () => called(entry.service, entry.name, made.value() ?? {}, entry.streams);
  const request = () => bridged("docs/call", { service: entry.service, method: entry.name, arguments: made.value() ?? {} }, token);
  const copies = [["Copy as command", command]];
  const actions = BRIDGE ? buttons("Call", (stop) => send(answer, stop, made.show, request), copies) : buttons("Call", () => {}, copies).slice(2);
  return trial("Try it", [made.node, h("div", {}, made.toggle), BRIDGE ? null : unbridged("calls")], actions, answer);
}

export function tryEvent(entry, token) {
  const wild = /[*>]/.test(entry.path);
  const subject = wild ? field("subject", { type: "string", description: `one that ${entry.path} takes` }, { root: {}, path: "subject", required: true }) : null;
  const made = form(entry.payload, entry.root);
  const answer = h("div.answer");
  const name = () => (subject ? subject.value() : entry.path);
  const request = () => bridged("docs/emit", { subject: name(), data: made.value() ?? null }, token);
  const command = () => emitted(name(), made.value() ?? null);
  const copies = [["Copy as command", command]];
  const actions = BRIDGE ? buttons("Emit", (stop) => send(answer, stop, made.show, request), copies) : buttons("Emit", () => {}, copies).slice(2);
  const title = "Emit one";
  return trial(title, [subject?.node, made.node, h("div", {}, made.toggle), BRIDGE ? null : unbridged("emits")], actions, answer);
}

export function trySocket(entry, token) {
  const places = entry.parameters.map((name) => [name, field(name, { type: "string" }, { root: {}, path: name, required: true })]);
  const query = form(entry.query, entry.root);
  const out = entry.takes === undefined ? null : form(entry.takes, entry.root);
  const frames = h("div.frames", { role: "log", "aria-label": "Frames", tabindex: "0" });
  const state = h("p.quiet", { role: "status" });
  let socket = null;

  function note(arrow, text) {
    frames.append(h("pre", {}, h("span.soft", {}, arrow), h("span", {}, json(text))));
    while (frames.childElementCount > 200) frames.firstChild.remove();
    frames.scrollTop = frames.scrollHeight;
  }
  function connect() {
    if (socket) return socket.close();
    let path = entry.path;
    for (const [name, one] of places) path = path.replace(`{${name}}`, encodeURIComponent(one.value() ?? ""));
    const found = new URL(`.${path}`, document.baseURI);
    for (const [name, value] of Object.entries(query.value() ?? {})) for (const each of [value].flat()) found.searchParams.append(name, shown(each));
    found.protocol = found.protocol.replace("http", "ws");
    socket = new WebSocket(found, token() ? ["bearer", token()] : []);
    open.textContent = "Disconnect";
    state.textContent = "Connecting …";
    socket.onopen = () => (state.textContent = "Connected.");
    socket.onmessage = (event) => note("←", typeof event.data === "string" ? event.data : `${event.data.size} bytes`);
    socket.onclose = (event) => {
      state.textContent = `Closed${event.code === 1006 ? ": it was refused, or the connection broke" : ` with ${event.code}`}${event.reason ? `, ${event.reason}` : ""}.`;
      open.textContent = "Connect";
      socket = null;
    };
  }
  function push() {
    try {
      if (socket?.readyState !== WebSocket.OPEN) throw new Error("Connect first.");
      const text = JSON.stringify(out.value() ?? null);
      socket.send(text);
      note("→", text);
    } catch (error) {
      state.textContent = error.message;
    }
  }
  const open = h("button.primary", { type: "button", onclick: connect }, "Connect");
  const settings = Object.keys(entry.query.properties ?? {}).length ? query.node : null;
  const sending = out ? [out.node, h("div.row", {}, h("button", { type: "button", onclick: push }, "Send"), out.toggle)] : [];
  return trial("Try it", [...places.map(([, one]) => one.node), settings, h("div.row", {}, open, state), ...sending], [], frames);
}
