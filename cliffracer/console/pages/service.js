// One service: its methods with a form for each, what else it does, its replicas, timers and settings.
import { get, post } from "./api.js";
import { called, python } from "./commands.js";
import { copier, h, pre, prose, told } from "./dom.js";
import { form } from "./form.js";
import { tree } from "./schema.js";
import { settingsTable } from "./settings.js";
import { count, heading, loading, ms, right, several, since, table, wide } from "./words.js";

const KINDS = { http: "HTTP", websocket: "socket", event: "event", timer: "timer", leader: "leader" };

export default function service(name, state) {
  const place = h("div.stack");
  const token = h("input", { type: "password", placeholder: "Bearer token, if asked", "aria-label": "Token", autocomplete: "off", spellcheck: "false" });
  const head = heading(name, { crumb: h("a", { href: "#/services" }, "Services") });
  const close = loading(place, () => get(`services/${encodeURIComponent(name)}`), draw);

  function draw(found) {
    const failing = [...new Set(found.replicas.flatMap((one) => one.health ?? []))];
    const unready = found.replicas.some((one) => !one.ready);
    const chips = [...found.versions.map((version) => h("span.chip", {}, version)), h("span.chip", {}, several(found.replicas.length, "replica")),
      unready ? h("span.chip.bad", {}, "not ready") : failing.length ? h("span.chip.odd", {}, "degraded") : found.ours && h("span.chip.good", {}, "healthy")];
    head.replaceChildren(...heading(name, { crumb: h("a", { href: "#/services" }, "Services"), chips: chips.filter(Boolean) }).childNodes);
    const asks = found.methods.some((one) => one.policy && one.policy !== "public");
    const kinds = new Map(found.handlers.filter((one) => one.kind === "rpc").map((one) => [one.name, one]));
    place.replaceChildren(...[
      found.description && h("p.soft", {}, prose(found.description)),
      ...failing.map((each) => h(`p.notice.${unready ? "bad" : "odd"}`, {}, each)),
      !found.ours && h("p.notice", {}, "This is no service of Cliffracer: it answers discovery as NATS micro does, and says no more of itself."),
      methods(found, kinds, asks ? token : null, state),
      others(found.handlers.filter((one) => one.kind !== "rpc")),
      replicas(found.replicas),
      found.settings.length ? h("details.more", {}, h("summary", {}, "Settings, and where they come from"), settingsTable(found.settings)) : null,
    ].filter(Boolean));
  }
  return { node: [head, place], title: name, close };
}

function methods(found, kinds, token, state) {
  if (!found.methods.length) return null;
  const cards = found.methods.map((method) => {
    const known = kinds.get(method.name) ?? {};
    const body = h("div.body");
    const figures = method.calls ? `${several(method.calls, "call")}${method.errors ? `, ${count(method.errors)} failed` : ""}, ${ms(method.p95_ms)}` : "never called";
    const node = h("details.card.panel", {}, h("summary", {}, h("span.path.mono", {}, method.name), h("span.summary", {}, prose(known.words ?? "")),
      method.policy && h("span.chip", { title: "who may call" }, method.policy), h(`span.figures${method.errors ? ".bad" : ""}`, {}, figures)), body);
    node.addEventListener("toggle", () => {
      if (node.open && !body.hasChildNodes()) body.append(about(method, known), trial(found, method, known, token, state));
    });
    return node;
  });
  return h("section", {}, h("div.row.spread", {}, h("h2", {}, "Methods"), token && h("div", {}, token)), h("div.methods", {}, cards));
}

function about(method, known) {
  const part = (title, schema) => h("section.stack", {}, h("h3", {}, title), schema ? tree(schema, schema) : h("p.quiet", {}, "It does not say."));
  return h("div.stack", {}, method.last_error && h("p.notice.bad", {}, `Its last failure: ${method.last_error}`), part("Arguments", method.request),
    part(known.streams ? "A stream of" : "Result", method.response), h("p.quiet", {}, "On the subject ", h("code", {}, method.subject), known.place ? [", declared in ", h("code", {}, known.place)] : ""));
}

function trial(found, method, known, token, state) {
  const { name } = found;
  const made = form(method.request ?? {}, method.request ?? {});
  const answer = h("div.answer");
  const go = h("button.primary", { type: "submit" }, "Call");
  const given = () => made.value() ?? {};

  async function call(event) {
    event.preventDefault();
    go.disabled = true;
    made.show([]);
    answer.replaceChildren(h("p.quiet", { role: "status" }, "Waiting …"));
    try {
      const reply = await post("call", { service: name, method: method.name, arguments: given(), stream: Boolean(known.streams), token: token?.value ?? "" });
      answer.replaceChildren(h("p.row", { role: "status" }, h("span.chip.good", {}, "ok"), h("span.quiet", {}, ms(reply.ms)), h("a.quiet", { href: `#/traces/${reply.trace}` }, "its trace")), pre(reply.result, "Result"));
    } catch (error) {
      const left = made.show(error.errors ?? []);
      answer.replaceChildren(h("div.notice.bad", { role: "alert" }, h("strong", {}, error.title || "Not sent"), ": ", told(error), ...left.map((one) => h("div", {}, `${one.path}: ${one.message}`)),
        error.id && h("div", {}, `error id ${error.id}: see the log of the service`)));
    }
    go.disabled = false;
  }
  const safely = (make) => () => {
    try {
      return make();
    } catch (error) {
      return error.message;
    }
  };
  const copies = [copier(safely(() => called(name, method.name, given(), known.streams)), "Copy as command"), copier(safely(() => python(name, method.name, given(), known.streams)), "as Python")];
  const closed = state.about?.read_only;
  const real = found.replicas.some((one) => one.env === "production") && !closed;
  return h("form.stack", { onsubmit: call, novalidate: true, "aria-label": `Call ${method.name}` }, h("h3", {}, "Call it"), made.node, h("div", {}, made.toggle),
    closed ? h("p.notice", {}, `This console only reads: ${closed}. Copy the command to call it.`) : null, real ? h("p.notice.odd", {}, "This service runs in production: what it does is real.") : null, h("div.row", {}, closed ? null : go, copies), answer);
}

function others(handlers) {
  if (!handlers.length) return null;
  const placed = handlers.some((one) => one.place); // production does not say
  const rows = handlers.map((one) => [h("span.chip", {}, KINDS[one.kind] ?? one.kind), h("span", {}, h("code", {}, one.name), one.kind === "http" ? null : h("span.about", {}, prose(one.words))), one.function, ...(placed ? [h("code.soft", {}, one.place)] : []),
    count(one.calls), h("span", { class: one.errors ? "bad" : "soft", title: one.last_error }, count(one.errors)), ms(one.p95_ms)]);
  return h("section", {}, h("h2", {}, "What else it does"), table(["kind", "what", wide("function"), ...(placed ? [wide("declared in")] : []), right("calls"), right("failed"), right("95 %")], rows));
}

function replicas(list) {
  const rows = list.map((one) => [h("code", {}, one.id.slice(0, 8)), one.version, one.draining ? h("span.chip.odd", {}, "stopping") : one.health === null ? h("span.soft", {}, "unknown") : one.health.length ? h(`span.chip.${one.ready ? "odd" : "bad"}`, { title: one.health.join("; ") }, one.ready ? "degraded" : "not ready") : h("span.chip.good", {}, "healthy"),
    one.env, count(one.calls), h("span", { class: one.errors ? "bad" : "soft" }, count(one.errors)), since(one.started)]);
  return h("section", {}, h("h2", {}, "Replicas"), table(["replica", "version", "health", wide("environment"), right("calls"), right("failed"), right("up for")], rows));
}
