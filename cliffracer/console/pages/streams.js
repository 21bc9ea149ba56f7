// Streams, and how far behind their consumers are.
import { get } from "./api.js";
import { h } from "./dom.js";
import { count, empty, heading, loading, right, several, size, span, wide } from "./words.js";

export default function streams(state) {
  const space = state.about?.namespace ?? "";
  const place = h("div.stack");
  const close = loading(place, () => get("streams"), draw, 4000);
  function draw(found) {
    if (!found.length) {
      place.replaceChildren(empty("No streams", "A stream is made when a service subscribes to a durable event, or emits the first one."));
      return;
    }
    const most = Math.max(1, ...found.flatMap((stream) => stream.consumers.map((one) => one.waiting + one.in_hand)));
    place.replaceChildren(...found.map((stream) => panel(stream, most, space)));
  }
  return { node: [heading("Streams"), place], close };
}

// Names and subjects without the namespace, which stands in the corner.
const bare = (text, space, sign) => (space ? text.replace(`${space}${sign}`, "") : text);

function panel(stream, most, space) {
  const limits = Object.entries(stream.limits).map(([name, value]) => ({ max_msgs: `at most ${count(value)} messages`, max_bytes: `at most ${size(value)}`, max_age: `kept for ${span(value / 1e9)}` })[name]);
  const facts = [several(stream.messages, "message"), size(stream.bytes), stream.storage, stream.replicas > 1 ? `on ${stream.replicas} servers` : "", ...limits].filter(Boolean);
  const rows = stream.consumers.map((one) => h("tr", {},
    h("td", {}, h("code", {}, bare(one.name, space, "_")), one.durable ? null : h("span.chip", {}, "passing"), h("span.about.mono", {}, one.filters.map((each) => bare(each, space, ".")).filter((each) => !each.startsWith("cliffracer.replay.")).join(", "))),
    h("td.number", {}, lag(one.waiting + one.in_hand, most)), h("td.number.wide", {}, count(one.in_hand)), h("td.number.wide", { class: "number wide" }, h("span", { class: one.again ? "odd" : "soft" }, count(one.again))),
    h("td.number", {}, one.readers ? count(one.readers) : h("span", { class: one.waiting ? "bad" : "soft", title: "nobody asks for its messages now" }, "0"))));
  const heads = ["consumer", right("behind"), wide("in hand", true), wide("again", true), right("readers")].map((one) => (typeof one === "string" ? h("th", { scope: "col" }, one) : h(`th.number${one.wide ? ".wide" : ""}`, { scope: "col" }, one.title)));
  return h("section.panel.stream.table", { "aria-label": stream.name }, h("header", {}, h("h2", {}, bare(stream.name, space, "_")), h("span.chip", {}, stream.kind), h("span.quiet", {}, facts.join(" · ")), h("span.quiet", {}, stream.description)),
    rows.length ? h("div.scroll", {}, h("table", {}, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows))) : null);
}

function lag(behind, most) {
  const bar = h("i");
  bar.style.width = `${(behind / most) * 100}%`;
  return h("span.lag", {}, h("span.meter", { "aria-hidden": "true" }, bar), h("span", { class: behind ? "" : "soft" }, count(behind)));
}
