// The frame around the pages: where we are, what runs (one event stream for all pages), and whether the console is there.
import { follow, get } from "./api.js";
import dead from "./dead.js";
import { h } from "./dom.js";
import events from "./events.js";
import health from "./health.js";
import map from "./map.js";
import service from "./service.js";
import services from "./services.js";
import streams from "./streams.js";
import timers from "./timers.js";
import traces from "./traces.js";
import { sentence, waiting } from "./words.js";

const PLACES = [
  ["services", "Services", services], ["map", "Who calls whom", map], ["traces", "Traces", traces], ["events", "Events", events], ["dead", "Dead letters", dead],
  ["streams", "Streams", streams], ["timers", "Timers", timers], ["health", "Health", health],
];
const KEPT = 30; // figures of each service, for its little curve
const main = document.getElementById("main");
const state = { services: null, dead: null, problem: null, about: null, history: new Map(), lost: false };
let shown = null;

function take(news) {
  state.lost = false;
  state.problem = news.problem ?? null;
  if (news.read_only !== undefined && state.about && news.read_only !== state.about.read_only) {
    state.about.read_only = news.read_only;
    go(); // what acts appears or goes
  }
  if (news.services) {
    state.services = news.services;
    state.dead = news.dead;
    const here = new Set();
    for (const { name, rate } of news.services) {
      here.add(name);
      const figures = state.history.get(name) ?? [];
      figures.push(rate);
      if (figures.length > KEPT) figures.shift();
      state.history.set(name, figures);
    }
    for (const name of state.history.keys()) if (!here.has(name)) state.history.delete(name);
  }
  foot();
  places();
  shown?.live?.();
}

function places() {
  const [here] = route();
  const badge = document.querySelector("#places .chip");
  const label = state.dead ? String(state.dead) : "";
  if (badge) {
    badge.textContent = label;
    badge.hidden = !label;
  }
  for (const link of document.querySelectorAll("#places a")) {
    if (link.hash === `#/${here}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function foot() {
  const { about } = state;
  const words = state.lost ? "the console is gone; looking for it" : state.problem ? "NATS does not answer" : about ? `NATS ${about.nats.version}` : "connecting";
  const bad = state.lost || Boolean(state.problem);
  const key = JSON.stringify([words, bad, about?.env, about?.read_only]);
  const place = document.getElementById("foot");
  if (place.dataset.key === key) return;
  place.dataset.key = key;
  place.replaceChildren(h("div", { title: state.problem ?? about?.nats.url ?? "" }, h(`span.dot${bad ? ".bad" : ""}`), ` ${words}`),
    h("div.row", {}, about && h("span.chip", {}, about.env), about?.namespace && h("span.chip", { title: "namespace" }, about.namespace), about?.read_only && h("span.chip.odd", {}, "read only")),
    about?.read_only && h("div", {}, sentence(about.read_only)));
}

function route() {
  const parts = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  return parts[0] ? parts : ["services"];
}

function go() {
  const [place, ...rest] = route();
  shown?.close?.();
  const [, title, page] = PLACES.find(([key]) => key === place) ?? PLACES[0];
  shown = place === "services" && rest.length ? service(rest[0], state) : page(state, ...rest);
  main.replaceChildren(...[shown.node].flat());
  document.title = `${shown.title ?? title} · console`;
  places();
  window.scrollTo(0, 0);
  main.querySelector("h1")?.focus({ preventScroll: true });
}

document.getElementById("places").append(...PLACES.map(([key, title]) => h("li", {}, h("a", { href: `#/${key}` }, title, key === "dead" && h("span.chip.bad", { hidden: true })))));
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
main.append(waiting());
try {
  state.about = await get("about");
} catch (error) {
  state.problem = error.message;
}
foot();
addEventListener("hashchange", go); // not before it is known what a page may offer: drawn twice, it forgets what it was given
go();

// A browser has few connections to one place: a tab that nobody sees keeps none.
let end = null;
function look() {
  end?.();
  end = document.hidden ? null : follow("live", take, lost);
}
function lost() {
  state.lost = true;
  foot();
  shown?.live?.();
}
document.addEventListener("visibilitychange", look);
look();
