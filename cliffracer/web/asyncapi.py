"""The AsyncAPI 3.0 document of a server: its RPC and events on NATS, and its WebSockets, from the signatures that decode them.

Who may call is in ``security`` and, completely, in ``x-policy``; how events are delivered is in ``x-delivery``.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from cliffracer.assembly import Assembly
from cliffracer.checking import Declared
from cliffracer.declarations import Record, Rpc, Socket, Subscription
from cliffracer.settings import Settings
from cliffracer.shapes import PATH_PARAMETER, external_name
from cliffracer.signature import Parameter, yielded
from cliffracer.web.describing import Schemas, default, info, words
from cliffracer.web.schemes import Schemes, policy_of
from cliffracer.wire.subjects import Subjects

_CORRELATION = {"type": "string", "description": "the same on every hop; made where it is absent"}
_HEADERS = {"X-Correlation-ID": _CORRELATION, "traceparent": {"type": "string", "description": "W3C trace context"}}
_TIMEOUT = {"type": "string", "pattern": "^[0-9]+$", "description": "milliseconds that the caller still waits"}
_CLOUD = {name: {"type": "string"} for name in ("ce-id", "ce-type", "ce-source", "ce-time", "Nats-Msg-Id")}
_ERROR_HEADERS = {name: {"type": "string"} for name in ("Nats-Service-Error-Code", "Nats-Service-Error")}
_EVERYWHERE = frozenset({"bearer", "oidc"})
"""Security schemes that work over NATS too: by the header Authorization."""
_TRACED = {"location": "$message.header#/X-Correlation-ID"}
_FAULT = {
    "name": "fault",
    "summary": "a failure",
    "headers": {"type": "object", "properties": _ERROR_HEADERS},
    "payload": {"$ref": "#/components/schemas/Fault"},
}
_SERVERS = {
    "nats": {
        "host": "{nats}",
        "protocol": "nats",
        "description": "RPC by request and reply, events in a stream (JetStream)",
        "variables": {"nats": {"default": "localhost:4222", "description": "what NATS_URL names"}},
    },
    "http": {
        "host": "{http}",
        "protocol": "ws",
        "description": "WebSockets, on the port of HTTP",
        "variables": {"http": {"default": "localhost:8000", "description": "where the service serves HTTP"}},
    },
}


class Fault(msgspec.Struct):
    """Why a call failed; the headers ``Nats-Service-Error-Code`` and ``Nats-Service-Error`` say the same."""

    code: int
    message: str
    details: dict[str, Any]


def document(assemblies: Sequence[Assembly], settings: Settings | None = None) -> dict[str, Any]:
    """Return the document of the RPC, events and sockets of these apps."""
    schemes = Schemes(assemblies, settings).asyncapi()
    writer = _Writer(Subjects("" if settings is None else settings.namespace), schemes)
    for assembly in assemblies:
        for declared in assembly.frozen.declared:
            writer.add(assembly, declared)
    components: dict[str, Any] = {"schemas": writer.schemas.components(), "messages": writer.messages}
    if schemes:
        components["securitySchemes"] = schemes
    used = {channel["servers"][0]["$ref"].rpartition("/")[2] for channel in writer.channels.values()}
    return {
        "asyncapi": "3.0.0",
        "info": info(assemblies),
        "defaultContentType": "application/json",
        "servers": {name: server for name, server in _SERVERS.items() if name in used},
        "channels": writer.channels,
        "operations": writer.operations,
        "components": components,
    }


class _Writer:
    """Writes channels and operations; messages are in ``components``, and referred to."""

    def __init__(self, subjects: Subjects, schemes: Mapping[str, Any]) -> None:
        self._schemes = schemes
        self.schemas = Schemas(Fault)
        self.channels: dict[str, dict[str, Any]] = {}
        self.operations: dict[str, dict[str, Any]] = {}
        self.messages: dict[str, dict[str, Any]] = {}
        self._subjects = subjects

    def add(self, assembly: Assembly, declared: Declared) -> None:
        """Write one declaration; handlers that receive nothing, such as timers, are left out."""
        match declared.record:
            case Rpc():
                self._rpc(assembly, declared.record, declared)
            case Subscription():
                self._event(assembly, declared.record, declared)
            case Socket():
                self._socket(assembly, declared.record, declared)

    def _rpc(self, assembly: Assembly, record: Rpc, declared: Declared) -> None:
        signature = declared.signature
        assert signature is not None  # the app is frozen
        name = f"{assembly.frozen.name}.{record.name}"
        asked = self._message(f"{name}.request", signature.arguments(), {**_HEADERS, "Cliffracer-Timeout": _TIMEOUT}, record.function)
        answered = self._message(f"{name}.reply", signature.returns, {})
        self.messages.setdefault("fault", _FAULT)
        self._channel(name, self._subjects.rpc(assembly.frozen.name, record.name), "nats", [asked])
        self._channel(f"{name}.reply", None, "nats", [answered, "fault"])
        self.operations[name] = {
            "action": "receive",
            "channel": _ref("channels", name),
            **self._told(assembly, record),
            "messages": [_ref("channels", name, "messages", asked)],
            "reply": {
                "channel": _ref("channels", f"{name}.reply"),
                "messages": [_ref("channels", f"{name}.reply", "messages", each) for each in (answered, "fault")],
            },
            "bindings": {"nats": {"queue": assembly.frozen.name, "bindingVersion": "0.1.0"}},
            "x-kind": "rpc",
            "x-service": assembly.frozen.name,
            "x-method": record.name,
            **({"x-streams": True} if signature.streams else {}),
        }

    def _event(self, assembly: Assembly, record: Subscription, declared: Declared) -> None:
        signature = declared.signature
        assert signature is not None  # the app is frozen
        function = record.function.__name__
        name = f"{assembly.frozen.name}.{record.group or function}.{_plain(record.subject)}"
        payload = signature.accepts[0].annotation if signature.accepts else Any
        if record.batch:
            payload = getattr(payload, "__args__", (Any,))[0]
        sent = self._message(name, payload, {**_HEADERS, **_CLOUD})
        self._channel(name, self._subjects.event(record.subject), "nats", [sent])
        self.operations[name] = {
            "action": "receive",
            "channel": _ref("channels", name),
            **self._told(assembly, record),
            "messages": [_ref("channels", name, "messages", sent)],
            "x-kind": "event",
            "x-service": assembly.frozen.name,
            "x-function": function,
            "x-subject": record.subject,
            "x-delivery": "at least once" if record.durable else "each replica" if record.each else "at most once",
        }

    def _socket(self, assembly: Assembly, record: Socket, declared: Declared) -> None:
        signature, shape = declared.signature, declared.shape
        assert signature is not None
        assert shape is not None  # the app is frozen
        name = f"{assembly.frozen.name}.{record.function.__name__}"
        query = {"type": "object", "properties": {external_name(p): self.schemas.of(p.annotation, **default(p)) for p in shape.query}}
        query["required"] = [external_name(p) for p in shape.query if p.required]
        sends = signature.streams or (signature.returns is not type(None) and shape.incoming is None)
        ways: dict[str, Any] = {"send": signature.returns} if sends else {}
        if shape.incoming is not None:
            ways["receive"] = yielded(shape.incoming.annotation)
        ways = ways or {"send": Any, "receive": Any}  # its function takes the WebSocket, and drives it
        made = {way: self._message(f"{name}.{way}", kind, {}) for way, kind in ways.items()}
        parameters = {p.name: self._parameter(p) for p in shape.path}
        self._channel(name, PATH_PARAMETER.sub(r"{\1}", record.path), "http", list(made.values()), parameters)
        self.channels[name]["bindings"] = {"ws": {"method": "GET", "query": query, "bindingVersion": "0.1.0"}}
        for way, message in made.items():
            self.operations[f"{name}.{way}"] = {
                "action": way,
                "channel": _ref("channels", name),
                **self._told(assembly, record),
                "messages": [_ref("channels", name, "messages", message)],
                "x-kind": "socket",
                "x-service": assembly.frozen.name,
                "x-function": record.function.__name__,
            }

    def _channel(self, name: str, address: str | None, server: str, messages: list[str], parameters: dict[str, Any] | None = None) -> None:
        shown, found = (None, {}) if address is None else _address(address)
        self.channels[name] = {
            "address": shown,
            "servers": [{"$ref": f"#/servers/{server}"}],
            "messages": {message: _ref("components", "messages", message) for message in messages},
            **({"parameters": {**found, **(parameters or {})}} if found or parameters else {}),
        }

    def _message(self, name: str, kind: Any, headers: Mapping[str, Any], function: Any = None) -> str:
        message = {"name": name, "payload": self.schemas.of(kind)}
        if headers:
            message |= {"headers": _headers(headers)}
        if "X-Correlation-ID" in headers:
            message |= {"correlationId": _TRACED}
        if function is not None:
            message |= {"summary": f"arguments of {function.__name__}"}
        self.messages[name] = message
        return name

    def _parameter(self, parameter: Parameter) -> dict[str, Any]:
        """Return a parameter of a path, which is always text in AsyncAPI."""
        return {"description": getattr(parameter.annotation, "__name__", "")} if parameter.annotation is not str else {}

    def _told(self, assembly: Assembly, record: Record) -> dict[str, Any]:
        policy = policy_of(assembly, record)
        asked: dict[str, Any] = {} if policy is None else {"x-policy": str(policy)}
        if policy is not None and not policy.public:
            ways = self._schemes if isinstance(record, Socket) else [name for name in self._schemes if name in _EVERYWHERE]
            asked["security"] = [_ref("components", "securitySchemes", name) for name in ways]
        return {"title": record.function.__name__, **words(record.function), **asked}


def _headers(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties)}


def _ref(*path: str) -> dict[str, str]:
    return {"$ref": "#/" + "/".join(part.replace("~", "~0").replace("/", "~1") for part in path)}


def _plain(subject: str) -> str:
    """Return a subject as part of a key, its wildcards by name."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", subject.replace("*", "any").replace(">", "rest"))


def _address(subject: str) -> tuple[str, dict[str, Any]]:
    """Return an address with its wildcards as parameters, which AsyncAPI has in their place, and those parameters."""
    parameters: dict[str, Any] = {}

    def name(found: re.Match[str]) -> str:
        rest = found[0] == ">"
        made = "rest" if rest else f"token{len(parameters) + 1}"
        parameters[made] = {"description": "one token or more" if rest else "one token"}
        return f"{{{made}}}"

    return re.sub(r"(?<![^.])[*>](?![^.])", name, subject), parameters
