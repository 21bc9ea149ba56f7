// A form from a JSON Schema (2020-12), as services publish it. `form(schema, root)` gives {node, value(), show(errors)}.
// What it cannot draw is written as JSON. It checks little: the service does, and its errors are shown where they belong.
import { h, parse, prose } from "./dom.js";

const DEEPEST = 12;

export class Unreadable extends Error {}

export function resolve(schema, root) {
  let found = schema ?? {};
  for (let hops = 0; hops < 16 && found.$ref; hops++) {
    const path = found.$ref.replace(/^#\//, "").split("/");
    found = path.reduce((place, part) => place?.[part.replaceAll("~1", "/").replaceAll("~0", "~")], root) ?? {};
  }
  return found;
}

// In few words, what a schema lets through: "integer ≥ 1", "User", "list of text".
export function words(schema, root) {
  if (schema?.$ref) return schema.$ref.split("/").pop().replaceAll("~1", "/");
  const s = resolve(schema, root);
  const options = s.anyOf ?? s.oneOf;
  if (options) return options.map((one) => words(one, root)).join(" or ");
  if (s.enum) return s.enum.map((one) => JSON.stringify(one)).join(", ");
  if ("const" in s) return JSON.stringify(s.const);
  if (s.type === "array") return s.items ? `list of ${words(s.items, root)}` : "list";
  if (s.type === "object" && !s.properties) return s.additionalProperties?.type ? `map to ${words(s.additionalProperties, root)}` : "object";
  const bounds = [];
  if ("minimum" in s) bounds.push(`≥ ${s.minimum}`);
  if ("exclusiveMinimum" in s) bounds.push(`> ${s.exclusiveMinimum}`);
  if ("maximum" in s) bounds.push(`≤ ${s.maximum}`);
  if ("exclusiveMaximum" in s) bounds.push(`< ${s.exclusiveMaximum}`);
  if (s.minLength) bounds.push(`at least ${s.minLength}`);
  if (s.maxLength) bounds.push(`at most ${s.maxLength}`);
  const kind = s.format ?? (s.contentMediaType ? "file" : s.contentEncoding ? "bytes, base64" : { string: "text", null: "nothing" }[s.type] ?? s.type ?? "anything");
  return [kind, ...bounds].join(" ");
}

// The fields of an object: those that must be given first, in the order in which they are named.
export function fieldsOf(s) {
  const needed = s.required ?? [];
  const place = (name) => (needed.includes(name) ? needed.indexOf(name) : needed.length);
  return Object.entries(s.properties ?? {}).sort(([a], [b]) => place(a) - place(b));
}

export function form(schema, root = schema, initial = undefined) {
  const whole = h("div.stack");
  let control = build(schema, { root, path: "", required: true, initial, top: true });
  let area = null;
  const toggle = h("button.plain", { type: "button", "aria-pressed": "false", onclick: flip }, "Edit as JSON");
  whole.append(control.node);

  function flip() {
    try {
      if (area) {
        const given = area.value.trim() ? parsed(area.value, "") : undefined;
        control = build(schema, { root, path: "", required: true, initial: given, top: true });
        area = null;
        whole.replaceChildren(control.node);
      } else {
        area = h("textarea", { rows: "10", spellcheck: "false", "aria-label": "JSON" });
        area.value = JSON.stringify(control.value() ?? null, null, 2);
        whole.replaceChildren(area, h("span.why", { role: "alert" }));
      }
      toggle.textContent = area ? "Edit as a form" : "Edit as JSON";
      toggle.setAttribute("aria-pressed", String(Boolean(area)));
    } catch (error) {
      show([{ path: error.path ?? "", message: error.message }]);
    }
  }

  // Puts messages beside the fields they are about; returns those that found no place.
  function show(errors) {
    for (const each of whole.querySelectorAll(".why")) each.textContent = "";
    for (const each of whole.querySelectorAll("[aria-invalid]")) each.removeAttribute("aria-invalid");
    const left = [];
    for (const { path, message } of errors) {
      const place = [...whole.querySelectorAll("[data-path]")].find((one) => one.dataset.path === path);
      const why = place?.querySelector(":scope > .why");
      if (!why) {
        left.push({ path, message });
        continue;
      }
      why.textContent = message;
      place.querySelector("input, select, textarea")?.setAttribute("aria-invalid", "true");
    }
    whole.querySelector("[aria-invalid]")?.focus();
    return left;
  }

  return { node: whole, toggle, show, value: () => (area ? parsed(area.value, "") : control.value()) };
}

function build(schema, at) {
  const s = resolve(schema, at.root);
  if (at.path.split(/[.[]/).length > DEEPEST) return raw(s, at); // a schema that needs itself has no end
  const options = s.anyOf ?? s.oneOf ?? (Array.isArray(s.type) ? s.type.map((type) => ({ ...s, type })) : null);
  if (options) return choice(s, options, at);
  if ("const" in s) return { node: h("code", {}, JSON.stringify(s.const)), value: () => s.const };
  if (s.enum?.length === 1 && at.required) return { node: h("code", {}, JSON.stringify(s.enum[0])), value: () => s.enum[0] };
  if (s.enum) return enumerated(s, at);
  if (s.type === "boolean") return enumerated({ ...s, enum: [true, false] }, at);
  if (s.type === "integer" || s.type === "number") return number(s, at);
  if (s.type === "string") return text(s, at);
  if (s.type === "object" && s.properties) return object(s, at);
  if (s.type === "array" && s.items && !s.prefixItems) return list(s, at);
  return raw(s, at);
}

function choice(s, options, at) {
  const real = options.filter((one) => resolve(one, at.root).type !== "null");
  const nullable = real.length < options.length;
  if (real.length === 1 && !(nullable && at.required)) return build(real[0], { ...at, inherited: s });
  const names = [...real.map((one) => words(one, at.root)), ...(nullable ? ["null"] : [])];
  const inner = h("div.stack");
  const select = h("select", { "aria-label": `kind of ${at.path || "value"}`, onchange: pick }, names.map((name, n) => h("option", { value: String(n) }, name)));
  let control = null;
  if (nullable && (at.initial === null || at.initial === undefined)) select.value = String(names.length - 1);
  pick();

  function pick() {
    const chosen = real[Number(select.value)];
    control = chosen ? build(chosen, { ...at, required: true }) : null;
    inner.replaceChildren(...(control ? [control.node] : []));
  }
  return { node: h("div.stack", {}, select, inner), value: () => (control ? control.value() : null) };
}

function enumerated(s, at) {
  const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  const blank = at.required && at.initial === undefined ? [] : at.required ? [] : [h("option", { value: "" }, fallback(s, "not given"))];
  const select = h("select", { id: at.id }, blank, s.enum.map((value, n) => h("option", { value: String(n) }, shown(value))));
  const known = s.enum.findIndex((value) => value === at.initial);
  if (known >= 0) select.value = String(known);
  return { node: select, value: () => (select.value === "" ? undefined : s.enum[Number(select.value)]) };
}

function number(s, at) {
  const input = h("input.mono", {
    id: at.id, type: "text", inputmode: "decimal", autocomplete: "off", placeholder: fallback(s, at.required ? "" : "not given"),
    value: at.initial?.rawJSON ?? String(at.initial ?? ""),
  });
  function value() {
    const given = input.value.trim();
    if (given === "") return undefined;
    return /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(given) ? new Exact(given) : given; // what is no number, the service says so
  }
  return { node: input, value };
}

// A number as it was typed: JavaScript's would round those beyond 2^53.
class Exact {
  constructor(text) {
    this.text = text;
  }
  toJSON() {
    const number = Number(this.text);
    return Number.isSafeInteger(number) || !/^-?\d+$/.test(this.text) ? number : JSON.rawJSON ? JSON.rawJSON(this.text) : number;
  }
}

const HINTS = { "date-time": "2026-01-31T12:00:00Z", date: "2026-01-31", time: "12:00:00", uuid: "00000000-0000-0000-0000-000000000000", duration: "PT1H" };

function text(s, at) {
  const input = h("input", {
    id: at.id, type: "text", autocomplete: "off", spellcheck: "false",
    placeholder: fallback(s, HINTS[s.format] ?? (s.contentEncoding ? "base64" : at.required ? "" : "not given")),
    value: typeof at.initial === "string" ? at.initial : "",
  });
  let given = typeof at.initial === "string";
  input.addEventListener("input", () => (given = input.value !== ""));
  return { node: input, value: () => (input.value === "" && !given && !at.required ? undefined : input.value) };
}

function object(s, at) {
  if (!at.required && at.initial === undefined) return later(() => object(s, { ...at, required: true, removable: true }), "Add", at);
  const needed = new Set(s.required ?? []);
  const fields = fieldsOf(s).map(([name, schema]) => {
    const path = at.path ? `${at.path}.${name}` : name;
    return [name, field(name, schema, { root: at.root, path, required: needed.has(name), initial: at.initial?.[name] })];
  });
  const more = s.additionalProperties && typeof s.additionalProperties === "object" ? Object.fromEntries(Object.entries(at.initial ?? {}).filter(([name]) => !(name in s.properties))) : {};
  const node = h(at.top ? "fieldset.whole" : "fieldset", {}, fields.length ? fields.map(([, one]) => one.node) : h("p.quiet", {}, "It takes nothing."));
  function value() {
    const given = { ...more };
    for (const [name, one] of fields) {
      const each = one.value();
      if (each !== undefined) given[name] = each;
    }
    return given;
  }
  return { node, value };
}

let numbers = 0;

export function field(name, schema, at) {
  const s = resolve(schema, at.root);
  const id = `f${++numbers}`;
  const control = build(schema, { ...at, id });
  const tag = control.node.id === id ? "label" : "div";
  const heading = h(tag, tag === "label" ? { for: id, class: "name" } : { class: "name" },
    h("code", {}, name), h("span.soft", {}, words(schema, at.root)), at.required ? null : h("span.soft", {}, "optional"));
  const about = schema.description ?? s.description;
  const node = h("div.field", { "data-path": at.path }, heading, about ? h("p.quiet", {}, prose(about)) : null, control.node, h("span.why", { role: "alert" }));
  return { node, value: control.value };
}

function list(s, at) {
  const items = [];
  const holder = h("div.stack");
  const add = h("button", { type: "button", onclick: () => append(undefined) }, "Add an item");
  function append(initial) {
    const path = `${at.path}[${items.length}]`;
    const inner = build(s.items, { root: at.root, path, required: true, initial });
    const one = { inner };
    const remove = h("button.plain", { type: "button", "aria-label": `Remove ${path}`, onclick: drop }, "Remove");
    const node = h("div.item", {}, h("div.field", { "data-path": path }, inner.node, h("span.why", { role: "alert" })), remove);
    function drop() {
      items.splice(items.indexOf(one), 1);
      node.remove();
    }
    items.push(one);
    holder.append(node);
  }
  for (const each of Array.isArray(at.initial) ? at.initial : []) append(each);
  const value = () => (items.length || at.required ? items.map((one) => one.inner.value()) : undefined);
  return { node: h("fieldset", {}, holder, add), value };
}

function raw(s, at) {
  const area = h("textarea", { id: at.id, rows: "3", spellcheck: "false", placeholder: fallback(s, at.required ? "JSON" : "JSON; not given") });
  if (at.initial !== undefined) area.value = JSON.stringify(at.initial, null, 2);
  return { node: area, value: () => (area.value.trim() === "" ? undefined : parsed(area.value, at.path)) };
}

function later(make, label, at) {
  const holder = h("div.stack");
  let control = null;
  const add = h("button", { type: "button", onclick: open, "aria-label": `${label} ${at.path}` }, label);
  function open() {
    control = make();
    const remove = h("button.plain", { type: "button", onclick: close, "aria-label": `Remove ${at.path}` }, "Remove");
    holder.replaceChildren(control.node, h("div", {}, remove));
  }
  function close() {
    control = null;
    holder.replaceChildren(h("div", {}, add));
  }
  close();
  return { node: holder, value: () => control?.value() };
}

function fallback(s, otherwise) {
  return "default" in s ? `default: ${JSON.stringify(s.default)}` : otherwise;
}

export function parsed(text, path) {
  try {
    return parse(text);
  } catch (error) {
    throw Object.assign(new Unreadable(`This is no JSON: ${error.message}`), { path });
  }
}
