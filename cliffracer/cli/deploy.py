"""``cliffracer deploy``: what builds and runs apps elsewhere, written from what they declare."""

import importlib.resources
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template
from typing import Any

from cliffracer import __version__, runtime
from cliffracer.cli.loading import configured, load_apps
from cliffracer.cli.output import good, say
from cliffracer.declarations import Subscription
from cliffracer.errors import SetupError
from cliffracer.frozen import Frozen
from cliffracer.messaging.streams import durable_name
from cliffracer.settings import Settings
from cliffracer.wire.subjects import Subjects

PORT = 8000
_SAFE = re.compile(r"[A-Za-z_./][A-Za-z0-9_./-]*")
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n", "~"})
_USER = 10001
_NATS = """\
# On disk before it is acknowledged: a power cut costs nothing, and events are some hundred per second at most.
# Without the interval they are tens of thousands, and a power cut may cost those of the last two minutes.
# Three servers and NATS_REPLICAS=3 lose nothing with one of them, at any speed.
jetstream { store_dir: /data, sync_interval: always }
"""


def deploy(*, kind: str, apps: tuple[str, ...], image: str, output: str | None, keda: bool = False) -> None:
    """Print or write the file."""
    frozen = [app.freeze() for app in load_apps(apps)]
    plan = Plan(frozen, apps or configured(), image, Settings.load(), keda=keda)
    text = {"docker": plan.docker, "compose": plan.compose, "k8s": plan.kubernetes}[kind]()
    if output is None:
        say(text.rstrip())
        return
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise SetupError(f"{output} cannot be written: {error.strerror or error}.") from None
    say(f"{good('written')} {output}", err=True)


class Plan:
    """What some apps need where they run."""

    def __init__(self, frozen: Sequence[Frozen], targets: tuple[str, ...], image: str, settings: Settings, *, keda: bool = False) -> None:
        self.name = re.sub(r"[^a-z0-9-]+", "-", frozen[0].name.lower()).strip("-")
        self.image = image or f"{self.name}:{frozen[0].version}"
        self.database = any(runtime.needs_database(f) for f in frozen)
        self.http = any(runtime.needs_http(f) for f in frozen)
        self.command = ["cliffracer", "run", *targets]
        self.drain = settings.drain
        self.keda = keda
        subjects = Subjects(settings.namespace)
        self.stream = subjects.stream
        durable = [(f.name, record) for f in frozen for record, _ in f.of(Subscription) if record.durable]
        self.consumers = sorted({durable_name(subjects, name, record.function.__name__, record.group) for name, record in durable})

    def docker(self) -> str:
        """Return a Dockerfile."""
        template = (importlib.resources.files("cliffracer.cli") / "templates" / "Dockerfile.txt").read_text(encoding="utf-8")
        text = Template(template).substitute(version=__version__)
        return text.replace('CMD ["cliffracer", "run"]', f"CMD {json.dumps(self.command)}")

    def compose(self) -> str:
        """Return a compose file: the app, NATS with JetStream on a volume, and PostgreSQL if it is used."""
        environment = {"CLIFFRACER_ENV": "production", "NATS_URL": "nats://nats:4222"}
        waits = {"nats": {"condition": "service_started"}}
        services: dict[str, Any] = {}
        volumes: dict[str, Any] = {"nats": None}
        if self.database:
            environment["DATABASE_URL"] = "postgresql://postgres:${POSTGRES_PASSWORD:?set it in .env}@postgres:5432/postgres"
            waits["postgres"] = {"condition": "service_healthy"}
            volumes["postgres"] = None
        app: dict[str, Any] = {"build": ".", "image": self.image, "command": self.command, "environment": environment, "depends_on": waits}
        if self.http:
            app["ports"] = [f"127.0.0.1:{PORT}:{PORT}"]
        app |= {"stop_grace_period": f"{self.drain + 10:g}s", "restart": "unless-stopped"}
        services[self.name] = app
        services["nats"] = {
            "image": "nats:2",
            "command": ["-c", "/nats.conf"],
            "configs": [{"source": "nats", "target": "/nats.conf"}],
            "volumes": ["nats:/data"],
            "restart": "unless-stopped",
        }
        if self.database:
            services["postgres"] = {
                "image": "postgres:18",
                "environment": {"POSTGRES_PASSWORD": "${POSTGRES_PASSWORD:?set it in .env}"},
                "volumes": ["postgres:/var/lib/postgresql"],
                "healthcheck": {"test": ["CMD", "pg_isready", "-U", "postgres"], "interval": "2s", "retries": 30},
                "restart": "unless-stopped",
            }
        migrate = f"# Before a new version: docker compose run --rm {self.name} cliffracer db apply\n" if self.database else ""
        configs = {"nats": {"content": _NATS}}
        return migrate + "\n".join(yaml({"services": services, "configs": configs, "volumes": volumes})) + "\n"

    def kubernetes(self) -> str:
        """Return manifests. Secrets are referred to, not written: NATS_URL and, if it is used, DATABASE_URL."""
        keys = ["NATS_URL", *(["DATABASE_URL"] if self.database else [])]
        literals = " ".join(f"--from-literal={key}=..." for key in keys)
        head = f"# First: kubectl create secret generic {self.name} {literals}\n"
        if self.database:
            head += "# Before a new version, where DATABASE_URL is set: cliffracer db apply\n"
        return head + "".join("---\n" + "\n".join(yaml(document)) + "\n" for document in self.documents(keys))

    def documents(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        """Return the manifests as values."""
        found = [self._deployment(keys), self._disruption(), self._network()]
        if self.http:
            ports = [{"name": "http", "port": 80, "targetPort": "http"}]
            found.append(self._document("v1", "Service", {"selector": {"app": self.name}, "ports": ports}))
        found.append(self._scaled() if self.keda and self.consumers else self._autoscaler())
        return found

    def _document(self, version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
        return {"apiVersion": version, "kind": kind, "metadata": {"name": self.name, "labels": {"app": self.name}}, "spec": spec}

    def _deployment(self, keys: Sequence[str]) -> dict[str, Any]:
        secret = [{"name": key, "valueFrom": {"secretKeyRef": {"name": self.name, "key": key}}} for key in keys]
        plain = {"CLIFFRACER_ENV": "production", "HTTP_HOST": "0.0.0.0", "HTTP_PORT": str(PORT)}  # noqa: S104 - inside a pod
        container = {
            "name": self.name,
            "image": self.image,
            "args": self.command,
            "env": [*({"name": name, "value": value} for name, value in plain.items()), *secret],
            "ports": [{"name": "http", "containerPort": PORT}],
            "startupProbe": {**_probe("/health"), "periodSeconds": 2, "failureThreshold": 30},
            "livenessProbe": {**_probe("/health"), "periodSeconds": 10, "failureThreshold": 3},
            "readinessProbe": {**_probe("/health/ready"), "periodSeconds": 2, "failureThreshold": 1},
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
        }
        pod = {
            "terminationGracePeriodSeconds": int(self.drain) + 10,
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": _USER, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
        }
        spec = {
            "replicas": 2,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "selector": {"matchLabels": {"app": self.name}},
            "template": {"metadata": {"labels": {"app": self.name}}, "spec": pod},
        }
        return self._document("apps/v1", "Deployment", spec)

    def _disruption(self) -> dict[str, Any]:
        return self._document("policy/v1", "PodDisruptionBudget", {"minAvailable": 1, "selector": {"matchLabels": {"app": self.name}}})

    def _network(self) -> dict[str, Any]:
        """Let in whoever asks over HTTP, and out to names, NATS and PostgreSQL: the only peers that a service has of its own."""
        egress: list[dict[str, Any]] = [
            {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]},
            {"ports": [{"protocol": "TCP", "port": 4222}]},
        ]
        if self.database:
            egress.append({"ports": [{"protocol": "TCP", "port": 5432}]})
        spec = {
            "podSelector": {"matchLabels": {"app": self.name}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [{"protocol": "TCP", "port": PORT}]}],
            "egress": egress,
        }
        return self._document("networking.k8s.io/v1", "NetworkPolicy", spec)

    def _autoscaler(self) -> dict[str, Any]:
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": self.name}
        metric = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}
        spec = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 10, "metrics": [metric]}
        return self._document("autoscaling/v2", "HorizontalPodAutoscaler", spec)

    def _scaled(self) -> dict[str, Any]:
        """Scale by how many events wait for each consumer, instead of by CPU (KEDA)."""
        place = {"natsServerMonitoringEndpoint": "nats.nats:8222", "account": "$G", "stream": self.stream, "lagThreshold": "100"}
        triggers = [{"type": "nats-jetstream", "metadata": {**place, "consumer": name}} for name in self.consumers]
        spec = {"scaleTargetRef": {"name": self.name}, "minReplicaCount": 2, "maxReplicaCount": 10, "triggers": triggers}
        return self._document("keda.sh/v1alpha1", "ScaledObject", spec)


def _probe(path: str) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": "http"}, "timeoutSeconds": 2}


def yaml(value: Any, indent: int = 0) -> Iterator[str]:
    """Yield the lines of a value as YAML; texts that YAML could take for something else are quoted as JSON, which it takes as well."""
    pad = " " * indent
    if isinstance(value, dict):
        for name, one in value.items():
            if one is None or not isinstance(one, dict | list) or not one:
                yield f"{pad}{_scalar(name)}:{'' if one is None else f' {_scalar(one)}'}"
            elif isinstance(one, list) and all(not isinstance(each, dict | list) for each in one):
                yield f"{pad}{_scalar(name)}: [{', '.join(map(_scalar, one))}]"
            else:
                yield f"{pad}{_scalar(name)}:"
                yield from yaml(one, indent + 2)
        return
    for one in value:
        lines = list(yaml(one, indent + 2))
        yield f"{pad}- {lines[0].lstrip()}"
        yield from lines[1:]


def _scalar(value: Any) -> str:
    plain = isinstance(value, str) and _SAFE.fullmatch(value) is not None and value.lower() not in _WORDS
    return value if plain else json.dumps(value)
