"""What a process may reach on the network, and who may reach NATS and PostgreSQL: NetworkPolicies of Kubernetes."""

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from cliffracer.permissions.needs import Process
from cliffracer.settings import Settings

HTTP = 8000
"""The port of containers, as `cliffracer deploy k8s` sets it."""
NATS, POSTGRES = 4222, 5432
Policy = dict[str, Any]
_SAFE = re.compile(r"[^a-z0-9-]+")


def policies(found: Sequence[Process], settings: Settings) -> list[Policy]:
    """Return one policy for each process, and those of NATS and PostgreSQL, whose pods are expected to have the label ``app``."""
    made = [_service(process, settings) for process in found]
    made.append(_server("nats", found, NATS))
    stored = [process for process in found if _database(process)]
    return [*made, _server("postgres", stored, POSTGRES)] if stored else made


def label(name: str) -> str:
    """Return the name of a service as Kubernetes takes it."""
    return _SAFE.sub("-", name.lower()).strip("-")[:63].rstrip("-")


def _service(process: Process, settings: Settings) -> Policy:
    http = any(app.http for app in process.apps)
    egress = [_ports((53, "UDP"), (53, "TCP")), _ports(*((port, "TCP") for port in _nats_ports(settings)))]
    if _database(process):
        egress.append(_ports((_port(settings.database_url, POSTGRES), "TCP")))
    if settings.oidc_issuer is not None and any(app.ruled for app in process.apps):
        egress.append(_ports((_port(settings.oidc_issuer, 443), "TCP")))
    name = label(process.name)
    spec = {
        "podSelector": {"matchLabels": {"app": name}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [_ports((HTTP, "TCP"))] if http else [],
        "egress": egress,
    }
    return _policy(name, spec)


def _server(name: str, clients: Sequence[Process], port: int) -> Policy:
    """Let nobody but these processes into a server."""
    names = [label(process.name) for process in clients]
    allowed = {"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": names}]}}
    spec = {
        "podSelector": {"matchLabels": {"app": name}},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [allowed, {"podSelector": {"matchLabels": {"app": name}}}], **_ports((port, "TCP"))}],
    }
    return _policy(f"{name}-clients", spec)


def _policy(name: str, spec: Policy) -> Policy:
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec}


def _ports(*pairs: tuple[int, str]) -> Policy:
    return {"ports": [{"protocol": protocol, "port": port} for port, protocol in pairs]}


def _nats_ports(settings: Settings) -> Iterable[int]:
    embedded = settings.nats_url is None or settings.env != "production"
    addresses = [] if embedded else (settings.nats_url or "").split(",")
    return sorted({_port(address.strip(), NATS) for address in addresses} or {NATS})


def _port(url: str | None, default: int) -> int:
    return (urlsplit(url).port if url else None) or default


def _database(process: Process) -> bool:
    return any(app.database for app in process.apps)
