"""examples/hello.py: one function, two ways to call it."""

from cliffracer.testing import running
from examples.hello import app, greet


async def test_it_is_a_plain_function():
    """The decorated function is still the one that was written."""
    assert await greet("Ada") == "Hello, Ada!"


async def test_it_answers_rpc_and_http_alike():
    """The same greeting comes over NATS and over HTTP."""
    async with running(app) as t:
        assert await t.call("greet", name="Ada") == "Hello, Ada!"
        assert (await t.http.get("/greet", params={"name": "Ada"})).json() == "Hello, Ada!"
        assert (await t.http.get("/greet")).json() == "Hello, world!"
