// All services, one row each, changed in place as figures come.
import { h, svg } from "./dom.js";
import { empty, failure, heading, ms, rate, several, since, waiting } from "./words.js";

const COLUMNS = [
  ["name", "service"], ["replicas", "replicas", true, true], ["methods", "methods", true, true], ["rate", "calls / s", true], ["failing", "errors / s", true],
  ["p50_ms", "median", true, true], ["p95_ms", "95 %", true], ["started", "up for", true, true],
];
let sorting = { key: "name", down: false };
let words = "";

export default function services(state) {
  const search = h("input", { type: "search", placeholder: "Find a service", "aria-label": "Find a service", value: words });
  search.addEventListener("input", () => {
    words = search.value;
    draw();
  });
  const sums = h("p.sums");
  const place = h("div");
  const rows = new Map();
  const body = h("tbody");
  const heads = COLUMNS.map(([key, title, number, wide]) => h(`th${number ? ".number" : ""}${wide ? ".wide" : ""}`, { scope: "col" }, h("button", { type: "button", onclick: () => sort(key, number) }, title)));
  const whole = h("div.panel.table.scroll", {}, h("table", {}, h("thead", {}, h("tr", {}, heads)), body));

  function sort(key, number) {
    sorting = { key, down: sorting.key === key ? !sorting.down : Boolean(number) };
    draw();
  }
  function draw() {
    if (!state.services) {
      place.replaceChildren(state.problem ? failure({ title: "NATS does not answer", message: state.problem }) : waiting());
      return;
    }
    const found = state.services;
    const total = (key) => found.reduce((sum, one) => sum + one[key], 0);
    sums.replaceChildren(...[[found.length, found.length === 1 ? "service" : "services"], [total("replicas"), total("replicas") === 1 ? "replica" : "replicas"], [rate(total("rate")), "calls / s"], [rate(total("failing")), "errors / s"]].map(([figure, what]) => h("span", {}, h("b", {}, String(figure)), ` ${what}`)));
    if (!found.length) {
      place.replaceChildren(empty("No service is running", `Nobody answers on ${state.about?.nats.url ?? "NATS"}${state.about?.namespace ? ` in the namespace ${state.about.namespace}` : ""}. Start one, and it appears here:`, h("code", {}, "cliffracer run users:app")));
      return;
    }
    const wanted = words.trim().toLowerCase();
    const fitting = found.filter((one) => `${one.name} ${one.description}`.toLowerCase().includes(wanted)).sort(compare);
    if (!fitting.length) {
      place.replaceChildren(empty("No service fits", `None of ${several(found.length, "service")} has “${words}” in its name or description.`));
      return;
    }
    arrange(fitting);
    if (whole.parentElement !== place) place.replaceChildren(whole);
    heads.forEach((head, at) => {
      if (COLUMNS[at][0] === sorting.key) head.setAttribute("aria-sort", sorting.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  }
  function arrange(fitting) {
    const keep = new Set(fitting.map((one) => one.name));
    for (const [name, one] of rows) {
      if (!keep.has(name)) {
        one.node.remove();
        rows.delete(name);
      }
    }
    fitting.forEach((one, at) => {
      if (!rows.has(one.name)) rows.set(one.name, row(one.name));
      const known = rows.get(one.name);
      known.fill(one, state.history.get(one.name) ?? []);
      if (body.children[at] !== known.node) body.insertBefore(known.node, body.children[at] ?? null);
    });
  }
  draw();
  return { node: [heading("Services", { controls: [search] }), sums, place], live: draw };
}

function compare(a, b) {
  const [x, y] = [a[sorting.key], b[sorting.key]];
  const order = typeof x === "number" ? x - y : String(x).localeCompare(String(y));
  return (sorting.down ? -order : order) || a.name.localeCompare(b.name);
}

function row(name) {
  const about = h("span.about");
  const version = h("span.chip");
  const line = svg("polyline");
  const figure = h("span");
  const first = h("td", {}, h("a.name", { href: `#/services/${encodeURIComponent(name)}` }, name), " ", version, about);
  const cells = COLUMNS.slice(1).map(([key, , , wide]) => h(`td.number${wide ? ".wide" : ""}`, {}, key === "rate" ? h("span.rate", {}, svg("svg", { class: "spark", viewBox: "0 0 64 16", "aria-hidden": "true" }, line), figure) : ""));
  const node = h("tr", {}, first, cells);
  const set = (at, text, tone) => {
    if (cells[at].textContent !== text) cells[at].textContent = text;
    cells[at].className = `number ${tone ?? ""} ${COLUMNS[at + 1][3] ? "wide" : ""}`;
  };
  function fill(one, history) {
    about.textContent = one.description;
    version.textContent = one.version;
    set(0, String(one.replicas));
    set(1, String(one.methods));
    figure.textContent = rate(one.rate);
    line.setAttribute("points", curve(history));
    set(3, rate(one.failing), one.failing > 0 ? "bad" : "soft");
    set(4, ms(one.p50_ms));
    set(5, ms(one.p95_ms));
    set(6, since(one.started));
  }
  return { node, fill };
}

function curve(figures) {
  if (figures.length < 2) return "";
  const most = Math.max(...figures, 1);
  return figures.map((figure, at) => `${((at * 64) / (figures.length - 1)).toFixed(1)},${(15 - (figure / most) * 14).toFixed(1)}`).join(" ");
}
