"""``cliffracer deploy``: what builds and runs apps elsewhere, written from what they declare."""

import importlib.resources
import json
from string import Template
from typing import Any

from cliffracer import __version__
from cliffracer.cli.kubernetes import documents, kubernetes
from cliffracer.cli.loading import configured, load_apps
from cliffracer.cli.output import hand_over
from cliffracer.cli.plan import HTTP_PORT, Plan
from cliffracer.cli.yaml import yaml
from cliffracer.settings import Settings

_NATS = """\
# On disk before it is acknowledged: a power cut costs nothing, and events are some hundred per second at most.
# Without the interval they are tens of thousands, and a power cut may cost those of the last two minutes.
# Three servers and NATS_REPLICAS=3 lose nothing with one of them, at any speed.
jetstream { store_dir: /data, sync_interval: always }
"""


def deploy(*, kind: str, apps: tuple[str, ...], image: str, output: str | None, keda: bool = False, as_json: bool = False) -> None:
    """Print or write the file."""
    frozen = [app.freeze() for app in load_apps(apps)]
    plan = Plan(frozen, apps or configured(), image, Settings.load(), keda=keda)
    text = _as_json(kind, plan) if as_json else {"docker": docker, "compose": compose, "k8s": kubernetes}[kind](plan)
    hand_over(text, output)


def _as_json(kind: str, plan: Plan) -> str:
    """Return the same as JSON: what `docker compose` and `kubectl` take as well."""
    found = composed(plan) if kind == "compose" else {"apiVersion": "v1", "kind": "List", "items": documents(plan)}
    return json.dumps(found, indent=2) + "\n"


def docker(plan: Plan) -> str:
    """Return a Dockerfile."""
    template = (importlib.resources.files("cliffracer.cli") / "templates" / "Dockerfile.txt").read_text(encoding="utf-8")
    text = Template(template).substitute(version=__version__)
    return text.replace('CMD ["cliffracer", "run"]', f"CMD {json.dumps(plan.command)}")


def compose(plan: Plan) -> str:
    """Return a compose file."""
    migrate = f"# Before a new version: docker compose run --rm {plan.name} cliffracer db apply\n" if plan.database else ""
    return migrate + "\n".join(yaml(composed(plan))) + "\n"


def composed(plan: Plan) -> dict[str, Any]:
    """Return a compose file as a value: the app, NATS with JetStream on a volume, and PostgreSQL if it is used."""
    environment = {"CLIFFRACER_ENV": "production", **plan.config, "NATS_URL": "nats://nats:4222"}
    environment |= {name: f"${{{name}:?set it in .env}}" for name in plan.secrets if name not in {"NATS_URL", "DATABASE_URL"}}
    waits = {"nats": {"condition": "service_started"}}
    services: dict[str, Any] = {}
    volumes: dict[str, Any] = {"nats": None}
    if plan.database:
        environment["DATABASE_URL"] = "postgresql://postgres:${POSTGRES_PASSWORD:?set it in .env}@postgres:5432/postgres"
        waits["postgres"] = {"condition": "service_healthy"}
        volumes["postgres"] = None
    app: dict[str, Any] = {"build": ".", "image": plan.image, "command": plan.command, "environment": environment, "depends_on": waits}
    if plan.http:
        app["ports"] = [f"127.0.0.1:{HTTP_PORT}:{HTTP_PORT}"]
    app |= {"stop_grace_period": f"{plan.drain + 10:g}s", "restart": "unless-stopped"}
    services[plan.name] = app
    services["nats"] = {
        "image": "nats:2",
        "command": ["-c", "/nats.conf"],
        "configs": [{"source": "nats", "target": "/nats.conf"}],
        "volumes": ["nats:/data"],
        "restart": "unless-stopped",
    }
    if plan.database:
        services["postgres"] = {
            "image": "postgres:18",
            "environment": {"POSTGRES_PASSWORD": "${POSTGRES_PASSWORD:?set it in .env}"},
            "volumes": ["postgres:/var/lib/postgresql"],
            "healthcheck": {"test": ["CMD", "pg_isready", "-U", "postgres"], "interval": "2s", "retries": 30},
            "restart": "unless-stopped",
        }
    return {"services": services, "configs": {"nats": {"content": _NATS}}, "volumes": volumes}
