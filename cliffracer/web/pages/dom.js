// Elements without a framework. Text is always text: nothing here writes HTML, so no payload can.

export function h(tag, properties = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const node = document.createElement(name);
  if (classes.length) node.className = classes.join(" ");
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key in node && key !== "list" && key !== "form" && typeof value !== "string") node[key] = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function svg(tag, properties = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(properties)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

// JSON with its whole numbers as they were sent: JavaScript's own would round those beyond 2^53.
export function parse(text) {
  return JSON.parse(text, (_key, value, context) => (typeof value === "number" && JSON.rawJSON && /^-?\d{16,}$/.test(context?.source ?? "") ? JSON.rawJSON(context.source) : value));
}

const PARTS = /("(?:\\.|[^"\\])*")(\s*:)?|\b(true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const MOST = 200_000;

// A value, or text that may be JSON, as coloured text.
export function json(value) {
  let text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  if (typeof value === "string") {
    try {
      text = JSON.stringify(parse(value), null, 2);
    } catch {
      return document.createTextNode(value);
    }
  }
  if (text === undefined || text.length > MOST) return document.createTextNode(text ?? "");
  const whole = document.createDocumentFragment();
  let at = 0;
  for (const found of text.matchAll(PARTS)) {
    whole.append(text.slice(at, found.index));
    const kind = found[2] ? "key" : found[1] ? "text" : found[3] ? "word" : "number";
    whole.append(h(`span.j-${kind}`, {}, found[1] ?? found[0]), found[2] ?? "");
    at = found.index + found[0].length;
  }
  whole.append(text.slice(at));
  return whole;
}

export function pre(value, label) {
  return h("pre.code", { tabindex: "0", "aria-label": label }, json(value));
}

export function copier(text, label = "Copy") {
  const button = h("button.plain", { type: "button" }, label);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(typeof text === "function" ? text() : text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select and copy it by hand: the browser refuses";
    }
    setTimeout(() => (button.textContent = label), 1500);
  });
  return button;
}

const QUOTED = /``(.+?)``|`([^`\n]+)`/g;

// What a docstring says, its names in backticks as code.
export function prose(text) {
  const parts = [];
  let at = 0;
  for (const found of text.matchAll(QUOTED)) {
    parts.push(text.slice(at, found.index), h("code", {}, found[1] ?? found[2]));
    at = found.index + found[0].length;
  }
  return [...parts, text.slice(at)];
}

// Give a failure of fetch words that say what to do.
export function told(error) {
  return error instanceof TypeError ? "No answer: the service is not there, or the network refused." : String(error.message ?? error);
}
