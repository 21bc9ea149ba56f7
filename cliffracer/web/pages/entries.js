// Turns an OpenAPI and an AsyncAPI document into one list of what can be looked at and tried.
import { resolve } from "./form.js";

const LABELS = { delete: "DEL", options: "OPT", patch: "PATCH" };

export function entries(open, async) {
  const found = [...http(open), ...messages(async)];
  const ids = new Map();
  for (const entry of found) {
    const plain = `${entry.kind}-${entry.service}-${entry.name}`.replace(/[^A-Za-z0-9_-]+/g, "-");
    ids.set(plain, (ids.get(plain) ?? 0) + 1);
    entry.id = ids.get(plain) > 1 ? `${plain}-${ids.get(plain)}` : plain;
  }
  return found;
}

function* http(open) {
  for (const [path, methods] of Object.entries(open.paths ?? {})) {
    for (const [method, operation] of Object.entries(methods)) {
      yield {
        kind: "http", service: operation.tags?.[0] ?? open.info.title, name: operation.operationId, path, method: method.toUpperCase(),
        label: LABELS[method] ?? method.toUpperCase(), tone: method, root: open, parameters: operation.parameters ?? [],
        body: operation.requestBody, responses: operation.responses ?? {}, ...told(operation),
      };
    }
  }
}

function* messages(async) {
  const sockets = new Map();
  for (const operation of Object.values(async.operations ?? {})) {
    const channel = resolve(operation.channel, async);
    const message = resolve(resolve(operation.messages[0], async), async);
    const common = { root: async, service: operation["x-service"], ...told(operation) };
    if (operation["x-kind"] === "rpc") {
      const reply = resolve(resolve(operation.reply.messages[0], async), async);
      yield {
        ...common, kind: "rpc", name: operation["x-method"], path: `${common.service}.${operation["x-method"]}`, subject: channel.address, label: "RPC", tone: "rpc",
        request: message.payload, reply: reply.payload, streams: operation["x-streams"],
      };
    } else if (operation["x-kind"] === "event") {
      yield {
        ...common, kind: "event", name: `${operation["x-function"]}-${operation["x-subject"]}`, path: operation["x-subject"], label: "ON", tone: "on",
        payload: message.payload, delivery: operation["x-delivery"], function: operation["x-function"],
      };
    } else {
      const known = sockets.get(operation.channel.$ref) ?? {
        ...common, kind: "socket", name: operation["x-function"], path: channel.address, label: "WS", tone: "ws",
        query: channel.bindings?.ws?.query ?? {}, parameters: Object.keys(channel.parameters ?? {}),
      };
      known[operation.action === "send" ? "sends" : "takes"] = message.payload;
      sockets.set(operation.channel.$ref, known);
    }
  }
  yield* sockets.values();
}

function told(operation) {
  return {
    summary: operation.summary ?? "", description: operation.description ?? "", policy: operation["x-policy"] ?? "",
    deprecated: operation.deprecated ?? false,
  };
}
