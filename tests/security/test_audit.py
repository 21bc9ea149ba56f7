"""The audit hook: who did what, through how many services, and how much of that is proven."""

import asyncio
import time

import pytest

from cliffracer import Access, App, Unauthenticated, public, requires
from cliffracer.context import STORED, Context
from cliffracer.security.keys import keys_of
from cliffracer.security.provenance import LIFE, Provenance
from cliffracer.settings import Settings
from cliffracer.testing import running
from tests.security.corpus import KEY
from tests.support.keys import private_pem, public_pem
from tests.support.waiting import eventually

Seen = dict[str, Access]


def chain(seen: Seen) -> tuple[App, App, App]:
    """Return three apps of which each calls the next, by HTTP, RPC and event; some handlers are for everybody."""
    first, second, third = App("first"), App("second"), App("third")

    def audit(access: Access) -> None:
        seen[access.handler] = access

    for app in (first, second, third):
        app.on_access(audit)

    @first.rpc
    @first.get("/begin")
    @requires
    async def begin() -> None:
        await first.call("second.middle")

    @second.rpc
    @requires
    async def middle() -> None:
        await second.emit("way.gone", 1)
        await second.service("third").send.sent()
        with second.as_service():
            await second.call("third.own")

    @third.rpc
    @requires
    async def own() -> None: ...

    @third.rpc
    @requires
    async def sent() -> None: ...

    @third.on("way.gone")
    @requires
    async def gone(number: int) -> None: ...

    _open(first, second, third)
    return first, second, third


def _open(first: App, second: App, third: App) -> None:
    @first.rpc
    @first.get("/open")
    @public
    async def opened() -> None:
        await first.call("second.between")

    @second.rpc
    @public
    async def between() -> None:
        await second.emit("way.open", 1)

    @third.on("way.open")
    @public
    async def ended(number: int) -> None: ...


def told(seen: Seen) -> dict[str, tuple[str | None, tuple[str, ...], int, bool]]:
    who = {name: None if one.identity is None else one.identity.subject for name, one in seen.items()}
    return {name: (who[name], one.via, one.hops, one.proven) for name, one in seen.items()}


@pytest.mark.parametrize("keys", [{"auth_secret_key": KEY}, {"auth_keys": private_pem("EdDSA")}], ids=["HS256", "EdDSA"])
async def test_the_way_is_told_and_proven(keys: dict[str, str]) -> None:
    """Of calls, events and one-way calls, by whomever; what a caller says over HTTP does not count."""
    seen: Seen = {}
    async with running(*chain(seen), **keys) as t:
        forged = {"Cliffracer-Via": "forged,way"}
        assert (await t.http.get("/begin", headers={"Authorization": f"Bearer {t.token('ada')}", **forged})).status_code == 204
        await t.settled()
        assert told(seen) == {
            "begin": ("ada", (), 0, False),
            "middle": ("ada", ("first",), 1, True),
            "own": ("second", ("first", "second"), 2, True),
            "sent": ("ada", ("first", "second"), 2, True),
            "gone": ("ada", ("first", "second"), 2, True),
        }
        seen.clear()
        assert (await t.http.get("/open", headers=forged)).status_code == 204
        await t.settled()
    assert told(seen) == {
        "opened": (None, (), 0, False),
        "between": (None, ("first",), 1, True),
        "ended": (None, ("first", "second"), 2, True),
    }
    assert len({one.correlation_id for one in seen.values()}) == 1
    assert {one.refused for one in seen.values()} == {None}


async def test_words_are_not_signed_by_us() -> None:
    """What a caller makes up of its way is told as what it says, and stays unproven all the way on."""
    seen: Seen = {}
    async with running(*chain(seen), auth_secret_key=KEY) as t:
        for way in ("bank", "bank;", "bank;99999999999.AAAA", "bank;9.é", f"bank;{int(time.time()) + 60}.{'A' * 43}", "bank;x.y"):
            seen.clear()
            block = f"NATS/1.0\r\nAuthorization: Bearer {t.token('eve')}\r\nCliffracer-Via: {way}\r\n\r\n".encode()
            await t.up.bus.request(f"{t.settings.namespace}.second.middle".encode(), b"{}", block, timeout=5.0)
            await t.settled()
            assert told(seen)["middle"] == ("eve", ("bank",), 1, False)
            assert told(seen)["own"] == ("second", ("bank", "second"), 2, False)
            assert told(seen)["gone"] == ("eve", ("bank", "second"), 2, False)
        block = f"NATS/1.0\r\nAuthorization: Bearer {t.token('eve')}\r\nCliffracer-Via: a b,,c\x01\r\n\r\n".encode()
        await t.up.bus.request(f"{t.settings.namespace}.third.own".encode(), b"{}", block, timeout=5.0)
        assert told(seen)["own"] == ("eve", (), 0, False)


def context_of(way: str | None, token: str | None, stored: float | None = None) -> Context:
    """Return the context of a message that came with these."""
    lines = f"Authorization: Bearer {token}\r\n" if token else ""
    lines += f"Cliffracer-Via: {way}\r\n" if way else ""
    made = Context("here", "handler", "rpc", block=f"NATS/1.0\r\n{lines}\r\n".encode())
    made.token = token
    if stored is not None:
        made.store()[STORED] = stored
    return made


@pytest.mark.parametrize("kind", ["HS256", "EdDSA", "RS256", "ES256"])
def test_a_signature_is_for_one_way_one_caller_and_not_for_long(kind: str) -> None:
    """It says nothing of another way or token, nor by another key, and ends; who has the public half only proves, and does not sign."""
    pem = "" if kind == "HS256" else private_pem(kind)
    settings = Settings(auth_secret_key=KEY) if kind == "HS256" else Settings(auth_keys=pem)
    ways = Provenance(keys_of(settings))
    way = ways.onward(context_of(None, "a.b.c"), "a.b.c")
    assert way is not None
    assert ways.onward(context_of(None, "a.b.c"), "a.b.c") is way
    names, _, proof = way.partition(";")
    until, _, signature = proof.partition(".")
    assert (names, ways.proven(context_of(way, "a.b.c"))) == ("here", True)
    for said, token in (
        (way, "a.b.d"), (way, None), (f"bank,{way}", "a.b.c"), (f"there;{proof}", "a.b.c"), (f"here;{int(until) + 1}.{signature}", "a.b.c"),
        (f"here;{until}.", "a.b.c"), (f"here;{until}.{signature[::-1]}", "a.b.c"), (f"here;{until}", "a.b.c"), ("here", "a.b.c"),
        (None, "a.b.c"), (";" + proof, "a.b.c"), (way + "A" * 5000, "a.b.c"),
    ):  # fmt: skip
        assert not ways.proven(context_of(said, token)), said
        assert said is None or ";" not in str(ways.onward(context_of(said, token), token))
    put_off = ways.onward(context_of(None, "a.b.c"), "a.b.c", time.time() + 10**6)
    assert ways.proven(context_of(put_off, "a.b.c", time.time() + 10**6 + 60))
    late = time.time() + LIFE + 1
    assert not ways.proven(context_of(way, "a.b.c", late))
    assert ways.proven(context_of(way, "a.b.c", late - 30))
    other = Provenance(keys_of(Settings(auth_secret_key="another-0123456789-another-0123456789")))
    assert not other.proven(context_of(way, "a.b.c"))
    if pem:
        reader = Provenance(keys_of(Settings(auth_keys=public_pem(pem))))
        assert reader.proven(context_of(way, "a.b.c"))
        assert reader.onward(context_of(way, "a.b.c"), "a.b.c") == "here,here"


def test_what_is_remembered_is_bounded() -> None:
    """However many tokens and ways come, so many are kept; and none of strangers, whose tokens may be as long as a message."""
    ways = Provenance(keys_of(Settings(auth_secret_key=KEY)))
    for said in ("here", "here;1.x", f"here;{int(time.time()) + 60}.AAAA"):
        assert not ways.proven(context_of(said, "x" * 1_000_000))
    assert not ways._verified
    for number in range(4200):
        way = ways.onward(context_of(None, f"t.{number}.t"), f"t.{number}.t")
        ways.proven(context_of(way, f"t.{number}.t"))
    assert len(ways._signed) == len(ways._verified) == 4096


async def test_refusals_and_strangers_are_told() -> None:
    """Who was refused, with the way; and on a handler for everybody who was known, and who came with a bad token as nobody."""
    seen: Seen = {}
    async with running(*chain(seen), auth_secret_key=KEY) as t:
        with pytest.raises(Unauthenticated):
            await t.call("begin")
        assert (seen["begin"].refused, seen["begin"].identity) == ("Unauthenticated", None)
        for token, who in ((t.token("ada"), "ada"), (t.token("ada") + "x", None)):
            await t.http.get("/open", headers={"Authorization": f"Bearer {token}"})
            assert told(seen)["opened"][0] == who
            assert seen["opened"].refused is None
    assert told(seen)["between"] == (None, ("first",), 1, True)


async def test_hooks_without_any_key() -> None:
    """An app that knows nobody is told of its calls all the same; no token is asked for or looked at."""
    seen: Seen = {}
    front, back = App("front"), App("back")

    @back.on_access
    async def audit(access: Access) -> None:
        await asyncio.sleep(0)
        seen[access.handler] = access

    @front.get("/ask")
    async def ask() -> str:
        await front.emit("asked", 1)
        return await front.call("back.answer")

    @back.rpc
    async def answer() -> str:
        return "yes"

    @back.on("asked")
    async def asked(number: int) -> None: ...

    async with running(front, back, auth_secret_key=None) as t:
        assert (await t.http.get("/ask", headers={"Authorization": "Bearer x"})).json() == "yes"
        await eventually(lambda: len(seen) == 2)
        document = (await t.http.get("/openapi.json")).json()
    assert told(seen) == {"answer": (None, ("front",), 1, False), "asked": (None, ("front",), 1, False)}
    assert "securitySchemes" not in document["components"]
    assert "security" not in document["paths"]["/ask"]["get"]


async def test_what_cannot_be_written_down_is_not_done() -> None:
    """A hook that fails ends the call with a defect, of which the caller is told nothing."""
    app = App("careful")

    @app.on_access
    def audit(access: Access) -> None:
        raise OSError("the log is full")

    @app.get("/open")
    @public
    async def opened() -> str:
        return "done"

    async with running(app) as t:
        reply = await t.http.get("/open")
    assert reply.status_code == 500
    assert "full" not in reply.text


@pytest.mark.parametrize("key", [KEY, None], ids=["a key", "none"])
async def test_a_function_of_two_apps_is_told_of(key: str | None) -> None:
    """Whichever of them has the hook, and whichever comes first."""
    audited, other = App("audited"), App("other")
    seen: list[str] = []

    @audited.on_access
    def audit(access: Access) -> None:
        seen.append(access.service)

    @audited.rpc
    @other.rpc
    @public
    async def shared() -> None: ...

    for apps in ((audited, other), (other, audited)):
        seen.clear()
        async with running(*apps, auth_secret_key=key):
            for name in ("audited", "other"):
                await audited.call(f"{name}.shared")
        assert seen == ["audited", "other"]
