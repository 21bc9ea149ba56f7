// One opened operation: what it says and takes on the left, a form to try it on the right.
import { h, prose } from "./dom.js";
import { member, tree } from "./schema.js";
import { tryEvent, tryHttp, tryRpc, trySocket } from "./try.js";

export function details(entry, token) {
  const about = h("div.stack", {},
    entry.deprecated && h("p.notice.odd", {}, "Deprecated: it may go away."),
    entry.description && h("p.told", {}, prose(entry.description)),
    { http: httpParts, rpc: rpcParts, event: eventParts, socket: socketParts }[entry.kind](entry));
  const trial = { http: tryHttp, rpc: tryRpc, event: tryEvent, socket: trySocket }[entry.kind](entry, token);
  return [about, trial];
}

function part(title, ...content) {
  return h("section.stack", {}, h("h3", {}, title), ...content);
}

function httpParts(entry) {
  const parts = [];
  for (const place of ["path", "query", "header", "cookie"]) {
    const mine = entry.parameters.filter((one) => one.in === place);
    if (mine.length) parts.push(part({ path: "Path", query: "Query", header: "Headers", cookie: "Cookies" }[place], h("ul.members", {}, mine.map((one) => member(one.name, one.schema, entry.root, one.required)))));
  }
  if (entry.body) {
    const [kind, content] = Object.entries(entry.body.content)[0];
    parts.push(part(`Body, ${kind}`, tree(content.schema, entry.root)));
  }
  for (const [status, answer] of Object.entries(entry.responses)) {
    const content = Object.entries(answer.content ?? {})[0];
    const title = `${status === "default" ? "Failure" : status}: ${answer.description}`;
    if (status === "default" || status === "422") continue;
    parts.push(part(title, content ? tree(content[1].schema ?? {}, entry.root) : h("p.quiet", {}, "Nothing is sent back.")));
  }
  return parts;
}

function rpcParts(entry) {
  return [
    entry.subject === entry.path ? null : h("p", {}, "On the subject ", h("code", {}, entry.subject), "."),
    part("Arguments", tree(entry.request, entry.root)),
    part(entry.streams ? "A stream of" : "Result", tree(entry.reply, entry.root)),
  ];
}

function eventParts(entry) {
  return [
    h("p", {}, h("code", {}, entry.function), " is given each event on ", h("code", {}, entry.path), `, ${entry.delivery}.`),
    part("Data", tree(entry.payload, entry.root)),
  ];
}

function socketParts(entry) {
  const query = Object.entries(entry.query.properties ?? {});
  return [
    query.length ? part("Query", h("ul.members", {}, query.map(([name, schema]) => member(name, schema, entry.root, entry.query.required?.includes(name))))) : null,
    entry.sends !== undefined ? part("It sends", tree(entry.sends, entry.root)) : null,
    entry.takes !== undefined ? part("It takes", tree(entry.takes, entry.root)) : null,
  ];
}
