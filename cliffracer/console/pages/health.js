// What this console is connected to, whether every replica is well, and the settings of this folder.
import { get } from "./api.js";
import { h } from "./dom.js";
import { settingsTable } from "./settings.js";
import { empty, heading, loading, ms, several, size, table, wide } from "./words.js";

export default function health() {
  const place = h("div.stack");
  const close = loading(place, async () => [await get("about"), await get("details")], draw, 5000);
  let settings = null;

  function draw([about, { replicas }]) {
    settings ??= settingsTable(about.settings);
    const facts = { NATS: [h("code", {}, about.nats.url), `, ${about.nats.version}`], "a round trip": ms(about.nats.ms), JetStream: about.nats.jetstream ? "on" : h("span.bad", {}, "off: start nats-server with -js"), "one message": `${size(about.nats.max_payload)} at most`, environment: about.env, namespace: about.namespace || h("span.soft", {}, "none") };
    const failing = replicas.filter((one) => one.health.some((check) => check.reason)).length;
    const rows = [...replicas].sort((a, b) => a.name.localeCompare(b.name) || a.id.localeCompare(b.id)).map((one) => {
      const bad = one.health.filter((check) => check.reason);
      const state = one.draining ? h("span.chip.odd", {}, "stopping") : bad.some((check) => check.critical) ? h("span.chip.bad", {}, "not ready") : bad.length ? h("span.chip.odd", {}, "degraded") : h("span.chip.good", {}, "healthy");
      return [h("a.name", { href: `#/services/${encodeURIComponent(one.name)}` }, one.name), h("code", {}, one.id.slice(0, 8)), one.version, one.env, state,
        bad.length ? bad.map((check) => h("div", {}, `${check.name}: ${check.reason}`)) : h("span.soft", {}, one.health.map((check) => check.name).join(", "))];
    });
    place.replaceChildren(h("div.panel.pad", {}, h("dl.facts", {}, Object.entries(facts).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))),
      h("section", {}, h("div.row", {}, h("h2", {}, "Replicas"), h("span.chip", { class: failing ? "chip bad" : "chip good" }, failing ? `${several(failing, "replica")} unwell` : "all well")),
        rows.length ? table(["service", wide("replica"), wide("version"), wide("environment"), "health", "checks"], rows) : empty("No replica of Cliffracer runs", "Services of others say nothing of their health.")),
      h("section", {}, h("h2", {}, "Settings of this folder"), settings));
  }
  return { node: [heading("Health and settings"), place], close };
}
