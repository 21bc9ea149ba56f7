// Dead letters: what could not be handled, why, and what to do about it.
import { get, post } from "./api.js";
import { h, told } from "./dom.js";
import { parsed } from "./form.js";
import { ask, clock, count, empty, heading, loading, right, several, since, table, wide } from "./words.js";

const filters = { service: "", function: "", subject: "" };

export default function dead(state, number) {
  return number ? letter(state, number) : list(state);
}

function list(state) {
  const place = h("div.stack");
  const fields = Object.keys(filters).map((name) => h("input", { type: "search", placeholder: name, "aria-label": `Only of this ${name}`, value: filters[name], size: "14", onchange: (event) => {
    filters[name] = event.target.value.trim();
    look();
  } }));
  let close = () => {};
  function look(after = 0) {
    close();
    close = loading(place, () => get(`dead?${new URLSearchParams({ ...filters, after })}`), draw);
  }
  function draw({ total, letters, more }) {
    const filtered = Object.values(filters).some(Boolean);
    if (!letters.length) {
      place.replaceChildren(filtered && total ? empty("None fits", `There are ${count(total)} dead letters, none of which these filters let through.`) : empty("No dead letters", "An event that a function could not handle, after its last retry, is kept here with the error, to be mended and handed over again."));
      return;
    }
    const rows = letters.map((one) => [h("a.name", { href: `#/dead/${one.id}` }, String(one.id)), h("code", {}, one.subject), `${one.service}.${one.function}`, h("span.bad.why", {}, one.error), String(one.attempts), since(one.parked)]);
    const every = state.about?.read_only ? null : h("div.row", {}, h("button", { onclick: () => all("replay") }, filtered ? "Replay all that fit" : "Replay all"), h("button.danger", { onclick: () => all("discard") }, filtered ? "Discard all that fit" : "Discard all"));
    const parts = [h("div.row.spread", {}, h("p.sums", {}, h("span", {}, h("b", {}, count(total)), total === 1 ? " letter" : " letters")), every),
      table(["number", "event", wide("function"), "error", wide("attempts", true), right("ago")], rows), more && h("div", {}, h("button", { onclick: () => look(letters.at(-1).id) }, "The next ones"))];
    place.replaceChildren(...parts.filter(Boolean));
  }
  async function all(action) {
    const which = Object.entries(filters).filter(([, value]) => value).map(([name, value]) => `${name} ${value}`).join(", ");
    const question = action === "replay" ? "Replay these events?" : "Discard these events?";
    const because = `${which ? `All with ${which}` : "All of them"}, 1000 at most. ${action === "replay" ? "Each goes to the function that failed, and to no other." : "They are removed for good."}`;
    if (!(await ask(question, because, action === "replay" ? "Replay" : "Discard"))) return;
    try {
      const done = await post("dead", { action, ...filters });
      look();
      const failed = Object.entries(done.failed);
      if (failed.length) place.before(h("p.notice.odd", { role: "status" }, `${several(failed.length, "letter")} stayed: ${failed[0][1]}`));
    } catch (error) {
      place.before(h("p.notice.bad", { role: "alert" }, told(error)));
    }
  }
  look();
  return { node: [heading("Dead letters", { controls: fields }), place], close: () => close() };
}

function letter(state, number) {
  const place = h("div.two");
  const close = loading(place, () => get(`dead/${encodeURIComponent(number)}`), draw);
  function draw(found) {
    const facts = { event: h("code", {}, found.subject), function: h("a", { href: `#/services/${encodeURIComponent(found.service)}` }, `${found.service}.${found.function}`), attempts: String(found.attempts), "given up": `${clock(found.parked)}, ${since(found.parked)} ago`, stream: `${found.stream}, number ${found.sequence}` };
    const left = h("div.stack", {}, h("p.notice.bad.mono", {}, found.error), h("dl.facts", {}, Object.entries(facts).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
      found.traceback ? h("section.stack", {}, h("h3", {}, "Traceback"), h("pre.code.lines", { tabindex: "0", "aria-label": "Traceback" }, found.traceback)) : null,
      h("details.more", {}, h("summary", {}, "Headers"), h("dl.facts", {}, Object.entries(found.headers).flatMap(([name, value]) => [h("dt", {}, name), h("dd.mono", {}, value)]))));
    place.replaceChildren(left, editor(found, state.about?.read_only));
  }
  return { node: [heading(`Dead letter ${number}`, { crumb: h("a", { href: "#/dead" }, "Dead letters") }), place], title: `Dead letter ${number}`, close };
}

function editor(found, closed) {
  const area = h("textarea", { rows: "14", "aria-label": "Data", spellcheck: "false", readOnly: Boolean(closed) || !found.json });
  area.value = found.data;
  const answer = h("div");
  const replay = h("button.primary", { type: "button", onclick: () => act("replay") }, "Replay");
  const reset = h("button.plain", { type: "button", hidden: true, onclick: () => {
    area.value = found.data;
    changed();
  } }, "Undo the changes");
  const discard = h("button.danger", { type: "button", onclick: () => act("discard") }, "Discard");
  function changed() {
    const differs = area.value !== found.data;
    replay.textContent = differs ? "Replay with these data" : "Replay";
    reset.hidden = !differs;
  }
  async function act(action) {
    try {
      const data = action === "replay" && area.value !== found.data ? area.value : null;
      if (data !== null) parsed(data, "data");
      if (action === "discard" && !(await ask(`Discard number ${found.id}?`, "It is removed for good.", "Discard"))) return;
      await post(`dead/${found.id}`, { action, data });
      for (const each of [replay, discard, reset]) each.disabled = true;
      answer.replaceChildren(h("p.notice", { role: "status" }, action === "replay" ? `Handed to ${found.service}.${found.function} again. If that fails too, it comes back here under a new number. ` : "It is gone. ", h("a", { href: "#/dead" }, "Back to the list")));
    } catch (error) {
      answer.replaceChildren(h("p.notice.bad", { role: "alert" }, told(error)));
    }
  }
  area.addEventListener("input", changed);
  const about = found.gone ? "Its data were kept in the object store, and are gone." : found.json ? "Change them here to replay with others." : "They are no JSON, so they cannot be edited here.";
  return h("div.panel.pad.stack", {}, h("h3", {}, "Data"), area, h("p.quiet", {}, closed ? "This console only reads." : about), closed ? null : h("div.row", {}, replay, reset, discard), answer);
}
