"""``python -m benchmarks.identity [--rounds 9] [--calls 5000] [--write]``: what a rule adds to an RPC; with ``--write`` into RESULTS.md."""

import argparse
import platform
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from benchmarks.database.paired import Table, Work, compare
from benchmarks.load.nats import Requester, connect
from benchmarks.payload import REQUEST, Customer, Line, Order, Receipt, receipt
from cliffracer import App, embedded, requires, runtime
from cliffracer.security.authority import Authority, tokens_of
from cliffracer.settings import Settings

IN_FLIGHT = 64
ROLES = {"roles": ["user", "editor"], "permissions": ["orders:read", "orders:write"]}


def keys() -> dict[str, dict[str, Any]]:
    made = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return {"HS256": {"auth_secret_key": "a2f0c1d97be84453968d1e7f5ab02c6e-bench"}, "EdDSA": {"auth_keys": made}}


def app_of(name: str, *, guarded: bool) -> App:
    app = App(name)

    @app.rpc
    async def place(id: int, customer: Customer, lines: list[Line], note: str, paid: bool) -> Receipt:
        return receipt(Order(id, customer, lines, note, paid))

    if guarded:
        requires("orders:write", role="user")(place)
    return app


async def ask(url: str, subject: str, token: str | None, calls: int) -> None:
    """Make calls, each with a token or with none; an answer that is no receipt ends the run."""
    requester = Requester(subject, IN_FLIGHT, headers=False)
    if token is not None:
        block = b"NATS/1.0\r\nAuthorization: Bearer %b\r\n\r\n" % token.encode()
        rest = b" %d %d\r\n%b%b\r\n" % (len(block), len(block) + len(REQUEST), block, REQUEST)
        requester.frames = [f"HPUB {subject} {requester.inbox}{slot:03d}".encode() + rest for slot in range(IN_FLIGHT)]
    await connect(url, requester)
    result = await requester.run(120.0, calls)
    requester.transport.close()
    if result.errors:
        raise RuntimeError(result.reason)


async def calls_of(url: str, rounds: int, calls: int) -> Table:
    """Compare an RPC without a rule and with one, whose callers come with a token that was seen before."""
    async with AsyncExitStack() as stack:
        settings = Settings(nats_url=url, env="test", log_level="ERROR")
        await stack.enter_async_context(runtime.running(app_of("open", guarded=False), settings))
        works: dict[str, tuple[Work, int]] = {"no rule": (lambda: ask(url, "open.place", None, calls), calls)}
        for alg, given in keys().items():
            mine = settings.changed(**given)
            await stack.enter_async_context(runtime.running(app_of(alg.lower(), guarded=True), mine))
            token = tokens_of(mine).issue("ada", ttl=3600, **ROLES)

            def work(subject: str = f"{alg.lower()}.place", token: str = token) -> Any:
                return ask(url, subject, token, calls)

            works[f"@requires, {alg}"] = (work, calls)
        table = await compare("An RPC, 64 in flight", "service and load, one process", works, rounds=rounds)
    base, *others = table.rows
    added = [f"{row.label} {median(a - b for a, b in zip(row.cpu, base.cpu, strict=True)):.1f} µs" for row in others]
    table.note = f"Added per call, with the larger message of the load in it: {', '.join(added)}."
    return table


async def tokens_alone(rounds: int, calls: int) -> Table:
    """Compare a token that is remembered with one whose signature is verified."""
    works: dict[str, tuple[Work, int]] = {}
    for alg, given in keys().items():
        tokens = tokens_of(Settings(**given))
        authority, token = Authority(tokens), tokens.issue("ada", ttl=3600, **ROLES)

        async def known(authority: Authority = authority, token: str = token) -> None:
            for text in [f"{token} "[:-1] for _ in range(calls)]:  # a text of its own each time, as it comes from the wire
                authority.identity(text)

        async def new(authority: Authority = authority, token: str = token) -> None:
            for _ in range(calls):
                authority.tokens.verify(token)

        works |= {f"{alg}, remembered": (known, calls), f"{alg}, verified": (new, calls)}
    return await compare("A token", "by itself", works, rounds=rounds)


async def tables(url: str, rounds: int, calls: int) -> list[Table]:
    """Return all comparisons."""
    return [await calls_of(url, rounds, calls), await tokens_alone(rounds, calls)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.identity")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()

    with TemporaryDirectory(prefix="cr-bench-") as folder, embedded.servers(nats=True, database=False, folder=Path(folder)) as servers:
        found = uvloop.run(tables(servers.nats_url, given.rounds, given.calls))
    head = (
        "# Identity\n\nWhat a rule costs where the token was seen before, and what a token costs by itself. CPU is this process's; × is "
        f"the median over rounds of the ratio to the first row.\nPython {platform.python_version()}, {given.rounds} rounds in turns. "
        "Compare ratios, not figures.\n\n"
    )
    text = head + "\n".join(table.text() for table in found)
    print(text)
    if given.write:
        Path(__file__).with_name("RESULTS.md").write_text(text.rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
