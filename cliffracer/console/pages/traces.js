// The last traces, and one of them as a waterfall.
import { get } from "./api.js";
import { h } from "./dom.js";
import { clock, empty, heading, loading, ms, right, table, wide } from "./words.js";

export default function traces(state, wanted) {
  return wanted ? one(wanted) : list();
}

function list() {
  const place = h("div");
  const search = h("input", { type: "search", placeholder: "Trace or correlation id", "aria-label": "Trace or correlation id" });
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && search.value.trim()) location.hash = `#/traces/${encodeURIComponent(search.value.trim())}`;
  });
  const close = loading(place, () => get("traces"), draw, 3000);
  function draw(found) {
    if (!found.length) {
      place.replaceChildren(empty("No traces yet", "Every process remembers its last 2000 calls, and 1000 more that failed or were slow. Make a call, and its trace is here."));
      return;
    }
    const rows = found.map((each) => [h("span.number", {}, clock(each.began * 1000)), h("a.name.mono", { href: `#/traces/${each.trace}` }, each.first), h("span.soft", {}, each.services.join(", ")), String(each.spans),
      each.failed ? h("span.chip.bad", {}, `${each.failed} failed`) : h("span.chip.good", {}, "ok"), ms(each.ms)]);
    place.replaceChildren(table(["at", "began with", wide("services"), right("calls"), "", right("took")], rows));
  }
  return { node: [heading("Traces", { controls: [search] }), place], close };
}

function one(wanted) {
  const place = h("div.stack");
  const close = loading(place, () => get(`traces/${encodeURIComponent(wanted)}`), draw);
  function draw(spans) {
    if (!spans.length) {
      place.replaceChildren(empty("Nobody remembers this trace", "It may be too long ago, or its processes have ended. A trace that has just been made may take a moment.", h("button", { onclick: () => location.reload() }, "Look again")));
      return;
    }
    const begin = Math.min(...spans.map((span) => span.began));
    const whole = Math.max(...spans.map((span) => (span.began - begin) * 1000 + span.ms), 0.001);
    const depth = depths(spans);
    const cells = spans.flatMap((span) => {
      const bar = h(`i${span.outcome !== undefined && span.outcome !== "ok" ? ".bad" : span.kind === "event" ? ".event" : ""}`, { title: `${span.kind}, ${ms(span.ms)}` });
      bar.style.left = `${(((span.began - begin) * 1000) / whole) * 100}%`;
      bar.style.width = `${(span.ms / whole) * 100}%`;
      const name = h("span", { title: `${span.kind} ${span.service}.${span.name}` }, h("a", { href: `#/services/${encodeURIComponent(span.service)}` }, span.service), `.${span.name} `, h("span.soft", {}, span.kind));
      name.style.paddingLeft = `${0.75 + depth.get(span) * 1.1}rem`;
      return [name, h("span.track", {}, bar), h("span.number", {}, span.outcome && span.outcome !== "ok" ? h("span.bad", {}, span.outcome) : ms(span.ms))];
    });
    const correlation = spans.find((span) => span.correlation)?.correlation;
    place.replaceChildren(h("p.sums", {}, h("span", {}, h("b", {}, String(spans.length)), " calls"), h("span", {}, h("b", {}, ms(whole)), " in all"), correlation && h("span", {}, "correlation id ", h("code", {}, correlation))),
      h("div.panel.table", {}, h("div.fall", {}, cells)));
  }
  return { node: [heading("Trace", { crumb: h("a", { href: "#/traces" }, "Traces"), chips: [h("code.soft", {}, wanted)] }), place], title: "Trace", close };
}

function depths(spans) {
  const byId = new Map(spans.filter((span) => span.id).map((span) => [span.id, span]));
  const found = new Map();
  function of(span, guard = 0) {
    if (found.has(span) || guard > 50) return found.get(span) ?? 0;
    const parent = byId.get(span.parent);
    const depth = parent && parent !== span ? of(parent, guard + 1) + 1 : 0;
    found.set(span, depth);
    return depth;
  }
  for (const span of spans) of(span);
  return found;
}
