// What a schema lets through, for people to read.
import { h, prose } from "./dom.js";
import { fieldsOf, resolve, words } from "./form.js";

// A schema as a list of members; what repeats itself is named, not shown again.
export function tree(schema, root, above = []) {
  const s = resolve(schema, root);
  const inner = s.type === "array" && s.items ? s.items : schema;
  const found = resolve(inner, root);
  const name = words(schema, root);
  const names = fieldsOf(found).map(([name]) => name);
  if (!names.length) return h("p", {}, h("span", {}, s.type === "object" && s.properties ? "Nothing." : name), about(s, schema));
  if (above.includes(found)) return null;
  const required = new Set(found.required ?? []);
  const members = names.map((each) => member(each, found.properties[each], root, required.has(each), [...above, found]));
  const list = h("ul.members", {}, members);
  return above.length ? list : h("div.stack", {}, /Body$|^[a-z]/.test(name) && inner === schema ? null : h("p", {}, name, about(found, schema)), list);
}

export function member(name, schema, root, required, above = []) {
  const s = resolve(schema, root);
  const real = (s.anyOf ?? s.oneOf)?.find((one) => resolve(one, root).properties) ?? schema;
  const nested = above.length < 6 && (resolve(real, root).properties || resolve(resolve(real, root).items ?? {}, root).properties) ? tree(real, root, above.length ? above : [{}]) : null;
  const fallback = "default" in s ? `, default ${JSON.stringify(s.default)}` : required ? "" : ", optional";
  return h("li", {}, h("code", {}, name), h("span.soft", {}, `  ${words(schema, root)}${fallback}`), about(s, schema), nested);
}

function about(s, schema) {
  const text = schema.description ?? s.description;
  return text ? h("p.quiet.told", {}, prose(text)) : null;
}
