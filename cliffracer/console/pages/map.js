// Who calls whom: boxes in layers from left to right, from the last calls that the processes remember.
import { get } from "./api.js";
import { h, svg } from "./dom.js";
import { count, empty, heading, loading, ms, right, several, table } from "./words.js";

const WIDE = 176;
const HIGH = 36;
const GAP = { x: 110, y: 20 };
const ARC = 40;
const BEND = "\n"; // begins the name of a place where a line passes
const MOST = 60; // boxes in a picture that can be read

export default function map() {
  const place = h("div.stack");
  const close = loading(place, () => get("edges"), draw, 5000);

  function draw(edges) {
    if (!edges.length) {
      place.replaceChildren(empty("No calls yet", "Services appear here as soon as they call one another or handle each other's events. Each process remembers its last 2000 calls."));
      return;
    }
    const names = busiest(edges);
    const fitting = edges.filter((edge) => names.has(edge.from) && names.has(edge.to));
    const rows = [...edges].sort((a, b) => b.calls - a.calls).map((edge) => [edge.from, linked(edge.to), h(`span.chip${edge.kind === "event" ? ".violet" : ".accent"}`, {}, edge.kind), h("code", {}, edge.name), edge.calls ? count(edge.calls) : h("span.soft", {}, "not lately"),
      h("span", { class: edge.errors ? "bad" : "soft" }, count(edge.errors)), ms(edge.ms)]);
    place.replaceChildren(h("div.panel.graph", {}, picture(fitting)),
      h("p.legend", {}, h("span", {}, h("i"), "calls"), h("span", {}, h("i.event"), "events"), h("span", {}, h("i.failed"), "some failed"), names.size === MOST && h("span", {}, `the ${MOST} busiest of all`)),
      h("section", {}, h("h2", {}, "The same as a table"), table(["from", "to", "kind", "name", right("calls"), right("failed"), right("on average")], rows)));
  }
  return { node: [heading("Who calls whom", { chips: [h("span.quiet", {}, "from the last calls of every process")] }), place], close };
}

function busiest(edges) {
  const calls = new Map();
  for (const edge of edges) for (const name of [edge.from, edge.to]) calls.set(name, (calls.get(name) ?? 0) + edge.calls);
  return new Set([...calls.keys()].sort((a, b) => calls.get(b) - calls.get(a)).slice(0, MOST));
}

const outside = (name) => ["HTTP", "WebSockets", "elsewhere"].includes(name);

function linked(name) {
  return outside(name) ? name : h("a", { href: `#/services/${encodeURIComponent(name)}` }, name);
}

function picture(edges) {
  const wires = merged(edges);
  const layers = layered(wires);
  routed(wires, layers);
  const tall = Math.max(...layers.map((layer) => layer.length));
  const size = { x: layers.length * (WIDE + GAP.x) - GAP.x + ARC, y: tall * (HIGH + GAP.y) - GAP.y + 4 };
  const spots = new Map();
  layers.forEach((layer, column) => layer.forEach((name, row) => {
    const top = (size.y - (layer.length * (HIGH + GAP.y) - GAP.y)) / 2;
    spots.set(name, { x: 2 + column * (WIDE + GAP.x), y: top + row * (HIGH + GAP.y) });
  }));
  const drawing = svg("svg", { width: size.x, height: size.y, viewBox: `0 0 ${size.x} ${size.y}`, role: "img", "aria-label": `${several([...spots.keys()].filter((name) => !name.startsWith(BEND)).length, "box", "boxes")}, ${several(wires.length, "line")}; the table below says the same` });
  for (const wire of wires) drawing.append(...line(wire, spots));
  for (const [name, spot] of spots) if (!name.startsWith(BEND)) drawing.append(box(name, spot));
  return drawing;
}

function merged(edges) {
  const found = new Map();
  for (const edge of edges) {
    const key = `${edge.from}\n${edge.to}\n${edge.kind === "event"}`;
    const wire = found.get(key) ?? { from: edge.from, to: edge.to, event: edge.kind === "event", calls: 0, errors: 0, names: [] };
    wire.calls += edge.calls;
    wire.errors += edge.errors;
    wire.names.push(edge.name);
    found.set(key, wire);
  }
  return [...found.values()];
}

// The longest way to each box says its column; a line that closes a circle is left out of account.
function layered(wires) {
  const names = [...new Set(wires.flatMap((wire) => [wire.from, wire.to]))].sort();
  const after = new Map(names.map((name) => [name, wires.filter((wire) => wire.from === name && wire.to !== name).map((wire) => wire.to)]));
  const column = new Map();
  const above = new Set();
  function place(name, at) {
    if (above.has(name) || (column.get(name) ?? -1) >= at) return;
    column.set(name, at);
    above.add(name);
    for (const next of after.get(name)) place(next, at + 1);
    above.delete(name);
  }
  const called = new Set(wires.filter((wire) => wire.from !== wire.to).map((wire) => wire.to));
  for (const name of names.filter((each) => !called.has(each))) place(name, 0);
  for (const name of names) if (!column.has(name)) place(name, 0);
  const layers = [];
  for (const name of names) (layers[column.get(name)] ??= []).push(name);
  return layers.filter(Boolean);
}

// A line that passes layers gets a place in each, so that it runs between boxes and not through them.
function routed(wires, layers) {
  const column = new Map(layers.flatMap((layer, at) => layer.map((name) => [name, at])));
  wires.forEach((wire, number) => {
    const [from, to] = [column.get(wire.from), column.get(wire.to)];
    wire.bends = [];
    for (const at of between(from, to)) {
      const bend = `${BEND}${number}.${at}`;
      wire.bends.push(bend);
      layers[at].push(bend);
    }
  });
  const steps = wires.flatMap((wire) => [wire.from, ...wire.bends, wire.to].slice(1).map((to, at) => ({ from: [wire.from, ...wire.bends][at], to })));
  layers.forEach((layer, at) => at && layer.sort((a, b) => middle(a, steps, layers[at - 1]) - middle(b, steps, layers[at - 1])));
}

function between(from, to) {
  const inside = Array.from({ length: Math.max(0, Math.abs(to - from) - 1) }, (_, at) => Math.min(from, to) + 1 + at);
  return from < to ? inside : inside.reverse();
}

function middle(name, wires, before) {
  const rows = wires.flatMap((wire) => (wire.to === name ? [wire.from] : wire.from === name ? [wire.to] : [])).map((other) => before.indexOf(other)).filter((row) => row >= 0);
  return rows.length ? rows.reduce((sum, row) => sum + row, 0) / rows.length : 0;
}

// Calls and events of two boxes run beside one another; so do those that run back.
const LIFTS = { call: -2, event: 6, "call back": -10, "event back": 13 };

function line(wire, spots) {
  const [from, to] = [spots.get(wire.from), spots.get(wire.to)];
  const back = to.x <= from.x; // it closes a circle: from the left side of its box to the right side of the other
  const lift = LIFTS[`${wire.event ? "event" : "call"}${back ? " back" : ""}`];
  const start = { x: back && to.x < from.x ? from.x : from.x + WIDE, y: from.y + HIGH / 2 + lift };
  const end = { x: back ? to.x + WIDE + 7 : to.x - 7, y: to.y + HIGH / 2 + (wire.from === wire.to ? 2 : lift) };
  const [near, far] = back ? [WIDE, 0] : [0, WIDE];
  const stops = [start, ...wire.bends.flatMap((name) => {
    const spot = spots.get(name);
    return [{ x: spot.x + near, y: spot.y + HIGH / 2 + lift }, { x: spot.x + far, y: spot.y + HIGH / 2 + lift }];
  }), end];
  const parts = stops.slice(1).map((stop, at) => (at % 2 ? `L${stop.x},${stop.y}` : curve(stops[at], stop)));
  const tone = wire.errors ? "failed" : wire.event ? "event" : "";
  const title = svg("title");
  title.textContent = `${wire.from} → ${wire.to}: ${several(wire.calls, wire.event ? "event" : "call")}${wire.errors ? `, ${wire.errors} failed` : ""} (${wire.names.slice(0, 6).join(", ")})`;
  const path = svg("path", { class: `wire ${wire.event ? "event" : ""} ${tone}`, "stroke-width": Math.min(5, 1.2 + Math.log10(Math.max(1, wire.calls))).toFixed(1), d: `M${start.x},${start.y} ${parts.join(" ")}` });
  path.append(title);
  return [path, svg("path", { class: `tip ${tone}`, d: `M${end.x},${end.y - 4.5} l${back ? -8 : 8},4.5 l${back ? 8 : -8},4.5z` })];
}

// A line between boxes of one column, or of one box to itself, is an arc on their right.
function curve(from, to) {
  const bend = (to.x - from.x) / 2;
  const [out, back] = Math.abs(bend) > 10 ? [bend, bend] : [ARC, -ARC];
  return `C${from.x + out},${from.y} ${to.x - back},${to.y} ${to.x},${to.y}`;
}

function box(name, spot) {
  const text = svg("text", { x: spot.x + WIDE / 2, y: spot.y + HIGH / 2 + 4.5, "text-anchor": "middle" });
  text.textContent = name.length > 24 ? `${name.slice(0, 23)}…` : name;
  const title = svg("title");
  title.textContent = name;
  const shape = svg("rect", { class: "box", x: spot.x, y: spot.y, width: WIDE, height: HIGH, rx: 9 });
  if (outside(name)) return svg("g", { class: "outside" }, title, shape, text);
  return svg("a", { href: `#/services/${encodeURIComponent(name)}` }, title, shape, text);
}
