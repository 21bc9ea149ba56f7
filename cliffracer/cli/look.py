"""``cliffracer services``, ``health`` and ``config``: what is there, how it is, what it was told."""

import asyncio
import http.client
import json
from typing import Any

import click

from cliffracer.cli.output import json_option, print_json, print_table, tells
from cliffracer.client import connect_async
from cliffracer.messaging.directory import Info, Stats
from cliffracer.settings import Settings


@click.command(short_help="List the services that run now.")
@click.argument("name", default="")
@json_option
@tells
def services(name: str, as_json: bool) -> None:
    """List the services on NATS with their calls, errors and durations; with NAME, its methods."""
    found = asyncio.run(_services(name))
    if as_json:
        print_json(found)
    elif name:
        rows = [[row["instance"], e["name"], e["calls"], e["errors"], e["p50_ms"], e["p95_ms"]] for row in found for e in row["endpoints"]]
        print_table(["instance", "method", "calls", "errors", "p50 ms", "p95 ms"], rows, empty=f"No service {name} is running.")
    else:
        rows = [[r["name"], r["version"], r["instance"], len(r["endpoints"]), r["calls"], r["errors"], r["started"]] for r in found]
        print_table(["service", "version", "instance", "methods", "calls", "errors", "since"], rows, empty="No service is running.")


async def _services(name: str) -> list[dict[str, Any]]:
    async with connect_async(settings=Settings.load()) as client:
        infos: list[Info] = await client.directory.ask("INFO", name, patience=0.3)
        stats: list[Stats] = await client.directory.ask("STATS", name, patience=0.3, kind=Stats)
    figures = {found.id: found for found in stats}
    return [_row(info, figures.get(info.id, Stats())) for info in sorted(infos, key=lambda info: (info.name, info.id))]


def _row(info: Info, stats: Stats) -> dict[str, Any]:
    counted = {endpoint.name: endpoint for endpoint in stats.endpoints}
    endpoints = []
    for endpoint in info.endpoints:
        figures = counted.get(endpoint.name)
        data = figures.data if figures is not None and isinstance(figures.data, dict) else {}
        endpoints.append(
            {
                "name": endpoint.name,
                "subject": endpoint.subject,
                "calls": figures.num_requests if figures else 0,
                "errors": figures.num_errors if figures else 0,
                "p50_ms": data.get("p50_ms", 0.0),
                "p95_ms": data.get("p95_ms", 0.0),
            }
        )
    return {
        "name": info.name,
        "version": info.version,
        "instance": info.id,
        "started": stats.started[:19].replace("T", " "),
        "calls": sum(e.num_requests for e in stats.endpoints),
        "errors": sum(e.num_errors for e in stats.endpoints),
        "endpoints": endpoints,
    }


@click.command(short_help="Ask a service over HTTP whether it is ready.")
@click.option("--host", metavar="H", help="Where it serves HTTP.")
@click.option("--port", type=click.IntRange(1, 65535), metavar="N", help="The port it serves on.")
@click.option("--live", is_flag=True, help="Ask only whether the process lives.")
@json_option
@tells
def health(host: str | None, port: int | None, live: bool, as_json: bool) -> None:
    """Exit with 0 if the service on this machine is ready (or, with --live, alive), else with 1. For HEALTHCHECK and probes."""
    settings = Settings.load(http_host=host, http_port=port)
    place = settings.http_host if settings.http_host not in {"", "0.0.0.0", "::"} else "127.0.0.1"  # noqa: S104 - compared, not bound
    status, answer = _ask(place, settings.http_port, "/health" if live else "/health/ready")
    if as_json:
        print_json({"ok": status == 200, "status": status, "answer": answer})
    elif status == 200:
        click.echo("ok")
    else:
        click.echo(f"not ready: {answer if isinstance(answer, str) else json.dumps(answer)}", err=True)
    raise SystemExit(0 if status == 200 else 1)


def _ask(host: str, port: int, path: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read(65_536)
    except (OSError, http.client.HTTPException) as error:
        return 0, f"http://{host}:{port} does not answer ({error})"
    finally:
        connection.close()
    try:
        return response.status, json.loads(body)
    except ValueError:
        return response.status, body.decode("utf-8", "replace")


@click.command(short_help="Show every setting and where it comes from.")
@click.option("--env-file", type=click.Path(exists=True, dir_okay=False), help="Read settings from this file instead of .env.")
@json_option
@tells
def config(env_file: str | None, as_json: bool) -> None:
    """Show every setting, its value (secrets masked) and where it comes from.

    Order: arguments, environment, .env, cliffracer.toml or [tool.cliffracer], default.
    """
    found = Settings.load(env_file=env_file).sources()
    if as_json:
        print_json([{"name": s.name, "value": s.value, "source": str(s.origin)} for s in found])
    else:
        print_table(["setting", "value", "from"], [[s.name, s.value, s.origin] for s in found], empty="There are no settings.")
