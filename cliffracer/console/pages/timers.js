// Timers of all services: the plan, when they are due next, how they went.
import { get } from "./api.js";
import { h } from "./dom.js";
import { clock, count, empty, heading, loading, right, span, table, wide } from "./words.js";

export default function timers() {
  const place = h("div");
  const moving = new Map();
  const close = loading(place, () => get("details"), draw, 5000);
  const ticking = setInterval(tick, 1000);

  function draw({ replicas, runs }) {
    const found = new Map();
    for (const replica of replicas) {
      for (const timer of replica.timers) {
        const key = `${replica.name}.${timer.function}`;
        found.set(key, { service: replica.name, ...timer, replicas: (found.get(key)?.replicas ?? 0) + 1 });
      }
    }
    if (!found.size) {
      place.replaceChildren(empty("No timers", "A function under @app.every or @app.cron appears here while its service runs."));
      return;
    }
    moving.clear();
    const rows = [...found.values()].sort((a, b) => (a.next ?? "~").localeCompare(b.next ?? "~")).map((timer) => {
      const mine = runs.filter((run) => run.service === timer.service && run.function === timer.function);
      const errors = mine.reduce((sum, run) => sum + run.errors, 0);
      const next = h("span", { title: timer.next ?? "" });
      moving.set(next, timer.next);
      return [h("a.name", { href: `#/services/${encodeURIComponent(timer.service)}` }, timer.service), h("code", {}, timer.function), timer.plan, timer.each ? `each of ${timer.replicas}` : "once per cluster", next,
        count(mine.reduce((sum, run) => sum + run.calls, 0)), h("span", { class: errors ? "bad" : "soft", title: mine.find((run) => run.last_error)?.last_error ?? "" }, count(errors))];
    });
    place.replaceChildren(table(["service", "function", "plan", wide("where"), "due in", right("runs"), right("failed")], rows));
    tick();
  }
  function tick() {
    for (const [node, next] of moving) {
      node.textContent = next ? `${span((new Date(next) - Date.now()) / 1000)}, at ${clock(next)}` : "never again";
    }
  }
  function end() {
    close();
    clearInterval(ticking);
  }
  return { node: [heading("Timers"), place], close: end };
}
