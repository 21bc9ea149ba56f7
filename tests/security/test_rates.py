"""How often somebody may call, counted by all replicas together."""

import asyncio

import pytest

from cliffracer import App, Overloaded, SetupError, public, requires
from cliffracer.resilience.rates import Rate
from cliffracer.testing import running


def app_named(name: str) -> App:
    app = App(name)

    @app.rpc(rate="5/h per identity")
    @app.get("/mine", rate="5/h per identity")
    @requires
    async def mine() -> str:
        return "mine"

    @app.rpc(rate="60/h")
    @public
    async def anybody() -> str:
        return "anybody"

    return app


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10/s per identity", Rate(10, 1.0, "identity")),
        ("5/m", Rate(5, 60.0)),
        ("3/10s per address", Rate(3, 10.0, "address")),
        ("1/500ms", Rate(1, 0.5)),
    ],
)
def test_words(text: str, rate: Rate) -> None:
    """A rate says how many, in what time, and of whom."""
    assert Rate.read(text) == rate


@pytest.mark.parametrize("text", ["", "10", "0/s", "10/x", "10/s per user", "-1/s", "1/0s"])
def test_wrong_words(text: str) -> None:
    """What is no rate is told where it stands."""
    app = App("wrong")
    with pytest.raises(SetupError, match="is no rate"):

        @app.rpc(rate=text)
        async def handler() -> None: ...


async def test_per_identity() -> None:
    """Each identity has its own allowance, whichever door it comes through; then comes 429 with the time to wait."""
    async with running(app_named("counted")) as t:
        with t.acting("ada") as token:
            headers = {"Authorization": f"Bearer {token}"}
            for _ in range(3):
                assert await t.call("mine") == "mine"
            assert [(await t.http.get("/mine", headers=headers)).status_code for _ in range(3)] == [200, 200, 429]
            refused = await t.http.get("/mine", headers=headers)
            assert 0 < int(refused.headers["retry-after"]) <= 3600
            with pytest.raises(Overloaded) as late:
                await t.call("mine")
            assert late.value.retry_after > 1
        with t.acting("bob"):
            assert await t.call("mine") == "mine"


async def test_replicas_share() -> None:
    """However many replicas and calls at once, all together get what the rate says."""
    async with running(app_named("shared")) as t:
        settings = t.settings.changed(http_port=0)
        async with running(app_named("shared"), settings=settings) as other:

            async def call(one) -> bool:
                try:
                    await one.call("anybody")
                except Overloaded:
                    return False
                return True

            found = await asyncio.gather(*(call(one) for one in (t, other) * 60))
    assert 55 <= sum(found) <= 60  # a replica may keep a share that it does not come to use
