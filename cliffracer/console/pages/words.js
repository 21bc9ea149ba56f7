// Figures and times in few characters, and parts that every page has.
import { h } from "./dom.js";

export function count(number) {
  return number >= 10_000 ? Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(number) : String(number);
}

export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (bytes >= 1000 && at < units.length - 1) {
    bytes /= 1000;
    at++;
  }
  return `${at && bytes < 10 ? bytes.toFixed(1) : Math.round(bytes)} ${units[at]}`;
}

export function ms(value) {
  if (!value) return "–";
  if (value < 1) return `${Math.max(1, Math.round(value * 1000))} µs`;
  if (value >= 1000) return `${(value / 1000).toFixed(1)} s`;
  return value >= 100 ? `${Math.round(value)} ms` : `${value.toPrecision(2)} ms`;
}

export function rate(value) {
  return value === 0 ? "0" : value < 10 ? value.toFixed(1) : count(Math.round(value));
}

export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min${s % 60 && s < 600 ? ` ${s % 60} s` : ""}`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

export function since(moment) {
  const seconds = (Date.now() - new Date(moment)) / 1000;
  return Number.isFinite(seconds) ? span(seconds) : "–";
}

export function clock(moment) {
  return new Date(moment).toLocaleTimeString("en-GB", { hour12: false }) ?? "";
}

export function several(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

export function heading(title, { crumb, chips = [], controls = [] } = {}) {
  return h("header", {}, crumb && h("p.crumb", {}, crumb), h("h1", { tabindex: "-1" }, title), chips, controls.length ? h("div.controls", {}, controls) : null);
}

export function empty(title, ...text) {
  return h("div.panel.empty", {}, h("strong", {}, title), text.map((each) => (typeof each === "string" ? h("p", {}, each) : each)));
}

export function failure(error, again) {
  return h("div.panel.empty", { role: "alert" }, h("strong", {}, error.title || "That did not work"), h("p", {}, sentence(error.message)), again && h("button", { onclick: again }, "Try again"));
}

export function sentence(text) {
  return /[.!?…]$/.test(text) ? text[0].toUpperCase() + text.slice(1) : `${text[0]?.toUpperCase() ?? ""}${text.slice(1)}.`;
}

export function waiting() {
  return h("p.quiet", { role: "status" }, "Looking …");
}

// Fills a place with what `load` gives, says what is wrong when it fails, and looks again every few seconds if asked. What has not
// changed stays, and so does what somebody is in with the keyboard: it would be taken from under the fingers.
export function loading(place, load, draw, every = 0) {
  let timer = null;
  let ended = false;
  let last = null;
  place.replaceChildren(waiting());
  async function look() {
    try {
      const found = await load();
      const news = JSON.stringify(found);
      if (!ended && news !== last && !(last !== null && place.contains(document.activeElement))) {
        draw(found);
        last = news;
      }
    } catch (error) {
      last = null;
      if (!ended && error.name !== "AbortError") place.replaceChildren(failure(error, look));
    }
    clearTimeout(timer);
    if (every && !ended) timer = setTimeout(look, every);
  }
  look();
  return () => {
    ended = true;
    clearTimeout(timer);
  };
}

export function table(headings, rows) {
  const cells = headings.map((one) => (typeof one === "string" ? h("th", { scope: "col" }, one) : h(`th${one.number ? ".number" : ""}${one.wide ? ".wide" : ""}`, { scope: "col" }, one.title)));
  const body = rows.map((row) => h("tr", {}, row.map((cell, at) => {
    const { number, wide } = typeof headings[at] === "string" ? {} : headings[at];
    return h(`td${number ? ".number" : ""}${wide ? ".wide" : ""}`, {}, cell);
  })));
  return h("div.panel.table.scroll", {}, h("table", {}, h("thead", {}, h("tr", {}, cells)), h("tbody", {}, body)));
}

export const right = (title) => ({ title, number: true });
export const wide = (title, number = false) => ({ title, number, wide: true });

export function ask(question, because, yes) {
  const dialog = document.getElementById("asking");
  document.getElementById("asked").textContent = question;
  document.getElementById("because").textContent = because;
  document.getElementById("yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}
