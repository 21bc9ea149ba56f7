// What to type for the same call elsewhere.
import { parse } from "./dom.js";

export function quoted(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

const PLAIN = /^[^@\d\s-]/;
const WORDS = new Set(["", "true", "false", "null"]);

export function called(service, method, given, streams) {
  const parts = Object.entries(given).map(([name, value]) =>
    quoted(typeof value === "string" && PLAIN.test(value) && !WORDS.has(value) ? `${name}=${value}` : `${name}:=${JSON.stringify(value)}`));
  return ["cliffracer call", `${service}.${method}`, ...parts, ...(streams ? ["--stream"] : [])].join(" ");
}

export function emitted(subject, data) {
  return `cliffracer emit ${quoted(subject)} ${quoted(JSON.stringify(data))}`;
}

export function python(service, method, given, streams) {
  const parts = Object.entries(parse(JSON.stringify(given))).map(([name, value]) => `${name}=${literal(value)}`);
  const owner = /^[A-Za-z_]\w*$/.test(service) ? `c.${service}` : `c.service(${JSON.stringify(service)})`;
  const call = `${owner}.${streams ? "stream." : ""}${method}(${parts.join(", ")})`;
  return `import cliffracer\n\nwith cliffracer.connect() as c:\n    ${streams ? `for item in ${call}:\n        print(item)` : `print(${call})`}\n`;
}

function literal(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (value.rawJSON) return value.rawJSON;
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([key, each]) => `${JSON.stringify(key)}: ${literal(each)}`).join(", ")}}`;
  return JSON.stringify(value);
}
