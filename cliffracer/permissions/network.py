"""What a process may reach on the network, and who may reach NATS and PostgreSQL: NetworkPolicies of Kubernetes."""

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from cliffracer.permissions.needs import Needs, Process
from cliffracer.settings import Settings

HTTP = 8000
"""The port of containers, as `cliffracer deploy k8s` sets it."""
NATS, POSTGRES, REDIS = 4222, 5432, 6379
Policy = dict[str, Any]
_HOST_PORT = re.compile(r":(\d+)$")
_SAFE = re.compile(r"[^a-z0-9-]+")


def policies(found: Sequence[Process], settings: Settings) -> list[Policy]:
    """Return the policies of all processes, and for each one that of NATS and of PostgreSQL, whose pods are those labelled ``app``.

    Policies add up, so each app has its own, the same wherever it runs: whatever is applied, once or again, together or one by
    one, `cliffracer permissions` and `cliffracer deploy` say the same under the same name.
    """
    made = [policy for process in found for policy in of_process(process, settings)]
    for process in found:
        made.append(_server("nats", process, NATS))
        if any(app.database for app in process.apps):
            made.append(_server("postgres", process, POSTGRES))
    return made


def of_process(process: Process, settings: Settings) -> list[Policy]:
    """Return what a process may reach and who may reach it, app by app; its pods are labelled with the name of the first.

    Versions of one app have one policy: one of its own for each would stay when the old version is gone.
    """
    pods = pods_of(process)
    named = {name: [app for app in process.apps if app.name == name] for name in process.names}
    return [_app(apps, pods if apps[0] is process.apps[0] else f"{pods}.{label(name)}", pods, settings) for name, apps in named.items()]


def pods_of(process: Process) -> str:
    """Return what the pods of a process are labelled with as ``app``."""
    return label(process.apps[0].name)


def label(name: str) -> str:
    """Return the name of a service as Kubernetes takes it."""
    return _SAFE.sub("-", name.lower()).strip("-")[:63].rstrip("-")


def _app(versions: Sequence[Needs], name: str, pods: str, settings: Settings) -> Policy:
    """Let in whoever asks over HTTP, and out to names, NATS and PostgreSQL: what it calls, it calls through NATS.

    What that is stands in an annotation; NATS is told by the other formats of `cliffracer permissions`.
    """
    egress = [_ports((53, "UDP"), (53, "TCP")), _ports(*((port, "TCP") for port in _nats_ports(settings)))]
    if any(app.database for app in versions):
        egress.append(_ports(*((port, "TCP") for port in _database_ports(settings))))
    if any(app.redis for app in versions):
        egress.append(_ports((_port(settings.redis_url, REDIS), "TCP")))
    if settings.oidc_issuer is not None and any(app.ruled for app in versions):
        egress.append(_ports((_port(settings.oidc_issuer, 443), "TCP")))
    spec = {
        "podSelector": {"matchLabels": {"app": pods}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [_ports((HTTP, "TCP"))] if any(app.http for app in versions) else [],
        "egress": egress,
    }
    made = _policy(name, pods, spec)
    if calls := dict.fromkeys(one for app in versions for one in app.calls):
        made["metadata"]["annotations"] = {"cliffracer/calls": ", ".join(calls)}
    return made


def _server(name: str, client: Process, port: int) -> Policy:
    """Let a process into a server, and nobody who has no such policy; the servers of a cluster reach each other."""
    pods = pods_of(client)
    callers = [{"podSelector": {"matchLabels": {"app": one}}} for one in (pods, name)]
    spec = {
        "podSelector": {"matchLabels": {"app": name}},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": callers, **_ports((port, "TCP"))}],
    }
    return _policy(f"{name}-from-{pods}", name, spec)


def _policy(name: str, app: str, spec: Policy) -> Policy:
    metadata: Policy = {"name": name, "labels": {"app": app}}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def _ports(*pairs: tuple[int, str]) -> Policy:
    return {"ports": [{"protocol": protocol, "port": port} for port, protocol in pairs]}


def _nats_ports(settings: Settings) -> Iterable[int]:
    embedded = settings.nats_url is None or settings.env != "production"
    addresses = [] if embedded else (settings.nats_url or "").split(",")
    return sorted({_port(address.strip(), NATS) for address in addresses} or {NATS})


def _database_ports(settings: Settings) -> Iterable[int]:
    hosts = [host for url in settings.databases for host in urlsplit(url).netloc.rpartition("@")[2].split(",")]
    found = (_HOST_PORT.search(host) for host in hosts)
    return sorted({int(port[1]) if port else POSTGRES for port in found} or {POSTGRES})


def _port(url: str | None, default: int) -> int:
    return (urlsplit(url).port if url else None) or default
