// The page: everything that the two documents describe, by service and kind, found by words, opened one by one.
import { h, prose, told } from "./dom.js";
import { entries } from "./entries.js";
import { details } from "./operation.js";

const $ = (id) => document.getElementById(id);
const KINDS = { http: "HTTP", rpc: "RPC", event: "Events", socket: "WebSockets" };
const ABOUT = {
  rpc: "request and reply on NATS", event: "what these functions subscribe to", socket: "on the port of HTTP", http: "",
};

async function load(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name} could not be read: ${answer.status}.`);
  return answer.json();
}

function card(entry) {
  const body = h("div.body");
  const summary = h("summary", {}, h(`span.method.${entry.tone}`, {}, entry.label), h("span.path.mono", {}, entry.path),
    h("span.summary", {}, prose(entry.summary)), entry.policy && h("span.chip", { title: "who may call" }, entry.policy));
  const node = h("details.card.panel", { id: entry.id }, summary, body);
  node.addEventListener("toggle", () => {
    if (node.open && !body.hasChildNodes()) body.append(...details(entry, () => $("token").value.trim()));
    if (node.open && location.hash.slice(1) !== entry.id) {
      history.replaceState(null, "", `#${entry.id}`);
      mark();
    }
  });
  return node;
}

function show(found) {
  const services = [...new Set(found.map((entry) => entry.service))];
  const groups = new Map(services.flatMap((service) => Object.keys(KINDS).map((kind) => [`${kind} ${service}`, []])));
  for (const entry of found) groups.get(`${entry.kind} ${entry.service}`).push(entry);
  const several = services.length > 1;
  const content = [];
  const index = [];
  for (const list of [...groups.values()].filter((each) => each.length)) {
    const { kind, service } = list[0];
    const title = several ? `${service} · ${KINDS[kind]}` : KINDS[kind];
    content.push(h("section.group", { "aria-label": title }, h("header", {}, h("h2", {}, title), h("span.quiet", {}, ABOUT[kind])), list.map(card)));
    index.push(h("section", {}, h("h2", {}, title), h("ul", {}, list.map((entry) => h("li", {},
      h("a", { href: `#${entry.id}`, "data-words": `${entry.label} ${entry.path} ${entry.summary}`.toLowerCase() },
        h(`span.method.${entry.tone}`, {}, entry.label), h("span", {}, entry.path)))))));
  }
  $("index").replaceChildren(...index);
  $("content").replaceChildren(...content);
  if (!found.length) {
    $("content").append(h("div.panel.empty", {}, h("strong", {}, "Nothing to show"), h("p", {}, "This app declares no routes, methods, events or sockets.")));
  }
}

function mark() {
  for (const link of $("index").querySelectorAll("a")) {
    if (link.hash === location.hash) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

function follow() {
  mark();
  const node = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (node instanceof HTMLDetailsElement) {
    node.open = true;
    node.scrollIntoView({ block: "start" });
    node.querySelector("summary").focus({ preventScroll: true });
  }
}

function search() {
  const wanted = $("search").value.trim().toLowerCase().split(/\s+/);
  for (const link of $("index").querySelectorAll("a")) {
    const fits = wanted.every((word) => link.dataset.words.includes(word));
    link.parentElement.hidden = !fits;
    document.getElementById(link.hash.slice(1)).hidden = !fits;
  }
  for (const section of document.querySelectorAll("#index section, .group")) {
    section.hidden = ![...section.querySelectorAll("li, details.card")].some((each) => !each.hidden);
  }
}

try {
  const [open, async] = await Promise.all([load("openapi.json"), load("asyncapi.json")]);
  const title = open.info.title;
  document.title = `${title} ${open.info.version}`;
  $("title").textContent = title;
  $("version").textContent = `version ${open.info.version}`;
  $("about").append(...prose(open.info.description ?? ""));
  show(entries(open, async));
  $("foot").append(h("a", { href: "openapi.json" }, "OpenAPI"), h("a", { href: "asyncapi.json" }, "AsyncAPI"));
  if (document.documentElement.dataset.swagger) $("foot").append(h("a", { href: "docs/swagger" }, "Swagger UI"));
  follow();
} catch (error) {
  $("title").textContent = "Documentation";
  $("content").replaceChildren(h("div.panel.empty", {}, h("strong", {}, "The documents could not be read"), h("p", {}, told(error)),
    h("button", { onclick: () => location.reload() }, "Try again")));
}
$("search").addEventListener("input", search);
addEventListener("hashchange", follow);
addEventListener("keydown", (event) => {
  if (event.key === "/" && !/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName)) {
    event.preventDefault();
    $("search").focus();
  }
});
