"""``cliffracer deploy``: what builds and runs apps elsewhere, written from what they declare."""

from pathlib import Path
from typing import Any

from cliffracer.cli import image
from cliffracer.cli.kubernetes import documents, kubernetes
from cliffracer.cli.loading import configured, load_apps
from cliffracer.cli.output import good, hand_over, hand_over_json, odd, print_json, say
from cliffracer.cli.plan import HTTP_PORT, Plan
from cliffracer.cli.yaml import yaml
from cliffracer.settings import Settings

_SERVERS = {"NATS_URL", "DATABASE_URL", "DATABASE_URLS"}
_FROM_ENV = "${POSTGRES_PASSWORD:?set it in .env}"
_ISREADY = ["CMD", "pg_isready", "-h", "127.0.0.1", "-U", "postgres"]
"""By its address: while the image makes the database, its server is there already, but for nobody outside."""
_NATS = """\
# On disk before it is acknowledged: a power cut costs nothing, and events are some hundred per second at most.
# Without the interval they are tens of thousands, and a power cut may cost those of the last two minutes.
# Three servers and NATS_REPLICAS=3 lose nothing with one of them, at any speed.
jetstream { store_dir: /data, sync_interval: always }
# Calls go to a replica that stands still until it is left out: after three or four of these, of two minutes each if nothing is said.
ping_interval: "10s"
"""


def deploy(*, kind: str, apps: tuple[str, ...], name: str, output: str | None, keda: bool = False, as_json: bool = False) -> None:
    """Print or write the file."""
    frozen = [app.freeze() for app in load_apps(apps)]
    plan = Plan(frozen, apps or configured(), name, Settings.load(), keda=keda)
    if kind == "docker":
        _docker(plan, output, as_json=as_json)
    elif as_json:
        hand_over_json(_value(kind, plan), output)
    else:
        hand_over({"compose": compose, "k8s": kubernetes}[kind](plan), output)


def _docker(plan: Plan, output: str | None, *, as_json: bool) -> None:
    if as_json and output is None:
        print_json({"Dockerfile": docker(plan), ".dockerignore": image.ignored()})
        return
    hand_over(docker(plan), output, as_json=as_json)
    _keep_out(output)


def _keep_out(output: str | None) -> None:
    """Write the .dockerignore beside a Dockerfile that has none, or say what it lacks: .env must not get into an image."""
    beside = Path(output).parent / ".dockerignore" if output else Path(".dockerignore")
    if beside.exists():
        rules = beside.read_text(encoding="utf-8").split()
        if not any(rule in ("*", "**") or ".env" in rule for rule in rules):
            say(f"{odd('look')} {beside} says nothing of .env, which would be in the image: add **/.env*", err=True)
        return
    if output:
        beside.write_text(image.ignored(), encoding="utf-8")
        say(f"{good('written')} {beside}  so that .env and .venv stay out of the image", err=True)
    else:
        say(
            f"{odd('look')} there is no .dockerignore here, so .env and .venv would be in the image; with -o Dockerfile one is written",
            err=True,
        )


def _value(kind: str, plan: Plan) -> dict[str, Any]:
    """Return the same as JSON: what `docker compose` and `kubectl` take as well."""
    return composed(plan) if kind == "compose" else {"apiVersion": "v1", "kind": "List", "items": documents(plan)}


def docker(plan: Plan) -> str:
    """Return a Dockerfile that installs what this folder's project asks for."""
    return image.dockerfile(plan.command, image.installing(Path(), plan.extras), image.importing(Path(), plan.targets))


def compose(plan: Plan) -> str:
    """Return a compose file."""
    migrate = f"docker compose run --rm {plan.name} cliffracer db apply && " if plan.database else ""
    return f"# A new version: docker compose build && {migrate}docker compose up -d\n" + "\n".join(yaml(composed(plan))) + "\n"


def composed(plan: Plan) -> dict[str, Any]:
    """Return a compose file as a value: the app, NATS with JetStream on a volume, and PostgreSQL if it is used."""
    environment = {"CLIFFRACER_ENV": "production", **plan.config, "NATS_URL": "nats://nats:4222"}
    environment |= {name: f"${{{name}:?set it in .env}}" for name in plan.secrets if name not in _SERVERS}
    waits = {"nats": {"condition": "service_started"}}
    services: dict[str, Any] = {}
    volumes: dict[str, Any] = {"nats": None}
    if plan.database:
        environment["DATABASE_URL"] = "postgresql://postgres@postgres:5432/postgres"
        environment["PGPASSWORD"] = _FROM_ENV  # not within the URL, where some characters would have to be written in another way
        waits["postgres"] = {"condition": "service_healthy"}
        volumes["postgres"] = None
    app: dict[str, Any] = {"build": ".", "image": plan.image, "entrypoint": [], "command": plan.command}
    app |= {"environment": environment, "depends_on": waits}
    if plan.http:
        app["ports"] = [f"127.0.0.1:{HTTP_PORT}:{HTTP_PORT}"]
    app |= {"init": True, "stop_grace_period": f"{plan.drain + 10:g}s", "restart": "unless-stopped"}  # init: nobody else reaps orphans
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
            "environment": {"POSTGRES_PASSWORD": _FROM_ENV},
            "volumes": ["postgres:/var/lib/postgresql"],
            "healthcheck": {"test": _ISREADY, "interval": "2s", "retries": 30},
            "restart": "unless-stopped",
        }
    return {"services": services, "configs": {"nats": {"content": _NATS}}, "volumes": volumes}
