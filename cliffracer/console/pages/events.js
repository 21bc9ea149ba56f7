// Events as they come, newest first, and a form to emit one.
import { follow, post } from "./api.js";
import { emitted } from "./commands.js";
import { copier, h, pre, told } from "./dom.js";
import { parsed } from "./form.js";
import { clock, empty, heading, several } from "./words.js";

const MOST = 300;
const SINCE = [["", "from now on"], ["10m", "of the last 10 minutes"], ["1h", "of the last hour"], ["1d", "of the last day"], ["30d", "of the last 30 days"]];
let pattern = ">";

export default function events(state) {
  const input = h("input.mono", { type: "text", value: pattern, "aria-label": "Subject or pattern", spellcheck: "false", autocomplete: "off", size: "18" });
  const since = h("select", { "aria-label": "Since when" }, SINCE.map(([value, text]) => h("option", { value }, text)));
  const toggle = h("button", { type: "button", onclick: () => (end ? stop() : start()) }, "Pause");
  const list = h("div.panel.table", { role: "log", "aria-live": "off", "aria-label": "Events" });
  const note = h("p.quiet", { role: "status" });
  const place = h("div");
  let end = null;
  let listening = false;
  let seen = 0;
  let missed = 0;

  function start() {
    stop();
    pattern = input.value.trim() || ">";
    seen = missed = 0;
    list.replaceChildren();
    place.replaceChildren();
    const query = new URLSearchParams({ pattern, ...(since.value ? { since: since.value } : {}) });
    end = follow(`events?${query}`, take, (closed) => {
      listening = false;
      say();
      if (!closed) return;
      stop();
      explain(query);
    });
    toggle.textContent = "Pause";
    say();
  }
  function stop() {
    end?.();
    end = null;
    listening = false;
    toggle.textContent = "Listen";
    say();
  }
  async function explain(query) { // an event stream that is refused does not say why
    const reply = await fetch(`api/events?${query}`).catch(() => null);
    const why = reply && !reply.ok ? (await reply.json().catch(() => ({}))) : {};
    place.replaceChildren(h("div.notice.bad", { role: "alert" }, why.errors?.[0]?.message ?? why.detail ?? "The console does not answer."));
  }
  function take(news) {
    listening = true; // the first batch, even if it is empty, says that no event is missed from here on
    missed += news.missed;
    if (!seen && !news.events.length) place.replaceChildren(empty("Listening", `Events that match ${pattern} appear here as they happen.`));
    if (news.events.length && list.parentElement !== place) place.replaceChildren(list);
    list.prepend(...news.events.reverse().map(entry));
    seen += news.events.length;
    while (list.childElementCount > MOST) list.lastChild.remove();
    say();
  }
  function say() {
    const parts = [listening ? "listening" : end ? "connecting" : "paused", several(seen, "event")];
    if (seen > MOST) parts.push(`the last ${MOST} shown`);
    if (missed) parts.push(`${missed} more were too quick to show`);
    note.textContent = parts.join(", ");
  }
  input.addEventListener("keydown", (event) => event.key === "Enter" && start());
  since.addEventListener("change", start);
  start();
  return { node: [heading("Events", { controls: [input, since, toggle] }), note, emitting(state), place], close: stop };
}

function entry(event) {
  const text = JSON.stringify(event.data) ?? "";
  const inside = h("div.inside");
  const node = h("details.entry", {}, h("summary", {}, h("span.soft", {}, clock(event.time)), h("span.subject.mono", { title: event.subject }, event.subject), h("code.soft", {}, text.slice(0, 300)), h("span.soft", {}, event.source)), inside);
  node.addEventListener("toggle", () => {
    if (!node.open || inside.hasChildNodes()) return;
    const trace = /^00-([0-9a-f]{32})-/.exec(event.headers.traceparent ?? "")?.[1];
    inside.append(pre(event.data ?? null, "Data"), h("dl.facts", {}, Object.entries(event.headers).flatMap(([name, value]) => [h("dt", {}, name), h("dd.mono", {}, value)])),
      h("div.row", {}, copier(() => emitted(event.subject, event.data), "Copy as command"), trace && h("a", { href: `#/traces/${trace}` }, "its trace")));
  });
  return node;
}

function emitting(state) {
  if (state.about?.read_only) return null;
  const subject = h("input.mono", { type: "text", placeholder: "user.created", "aria-label": "Subject", spellcheck: "false", autocomplete: "off" });
  const data = h("textarea", { rows: "5", "aria-label": "Data, as JSON", placeholder: '{"name": "Ada"}', spellcheck: "false" });
  const token = h("input", { type: "password", placeholder: "Bearer token, if subscribers ask who emits", "aria-label": "Token", autocomplete: "off" });
  const answer = h("div");
  async function emit(event) {
    event.preventDefault();
    try {
      const value = data.value.trim() ? parsed(data.value, "data") : null;
      const reply = await post("emit", { subject: subject.value.trim(), data: value, token: token.value });
      answer.replaceChildren(h("p.row", { role: "status" }, h("span.chip.good", {}, "stored"), h("a.quiet", { href: `#/traces/${reply.trace}` }, "its trace")));
    } catch (error) {
      answer.replaceChildren(h("p.notice.bad", { role: "alert" }, error.errors?.[0]?.message ?? told(error)));
    }
  }
  return h("details.more", {}, h("summary", {}, "Emit an event"), h("form.panel.pad.stack", { onsubmit: emit, novalidate: true }, subject, data, token, h("div.row", {}, h("button.primary", { type: "submit" }, "Emit")), answer));
}
