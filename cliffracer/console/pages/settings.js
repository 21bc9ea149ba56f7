// Settings with where they come from; what is left at its default can be hidden.
import { h } from "./dom.js";
import { table } from "./words.js";

export function settingsTable(settings) {
  const told = settings.some((one) => one.value !== "");
  const all = h("input", { type: "checkbox" });
  const place = h("div");
  function draw() {
    const rows = settings.filter((one) => all.checked || one.given).map((one) => [h("code", {}, one.name), told ? h("code", {}, one.value || "–") : h("span.soft", {}, "not told in production"), h("span.soft", {}, one.origin)]);
    place.replaceChildren(rows.length ? table(["setting", "value", "from"], rows) : h("p.quiet", {}, "Every setting is left at its default."));
  }
  all.addEventListener("change", draw);
  draw();
  return h("div.stack", {}, h("label.row.quiet", {}, all, "show those left at their default, too"), place);
}
