"""What becomes of a call's context where somebody gives it away."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from cliffracer import App, Context, Internal
from cliffracer.caching.keys import Unkeyable, told
from cliffracer.testing import running

TOKEN = "token-of-the-caller"
app = App("giving")


@app.rpc
async def give(*, context: Context) -> Any:
    return {"context": context}


@app.rpc
async def tell(*, context: Context) -> None:
    await app.emit("told", {"context": context})


@pytest.fixture
def context() -> Context:
    made = Context("giving", "give", "rpc", block=f"NATS/1.0\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
    made.token = TOKEN
    return made


@pytest.mark.parametrize("method", ["give", "tell"])
async def test_a_context_goes_neither_into_a_reply_nor_into_an_event(method: str):
    """It has its caller's token, and what headers came: a handler that gives it away fails, and nothing is sent."""
    async with running(app, log_level="CRITICAL") as t:
        with pytest.raises(Internal):
            await t.call(method)
        assert t.emitted("told") == []


@pytest.mark.parametrize("known", [None, str, repr])
@pytest.mark.parametrize("encode", [msgspec.json.encode, msgspec.msgpack.encode, msgspec.to_builtins])
def test_no_encoder_writes_a_context(context: Context, encode: Callable[..., Any], known: Any):
    """Not even one that writes the text of what it does not know."""
    with pytest.raises(TypeError):
        encode([context], enc_hook=known)


def test_a_context_is_no_part_of_a_key(context: Context):
    """An answer that depends on one is not kept."""
    with pytest.raises(Unkeyable):
        told(context, "context")


def test_a_context_shows_whose_call_it_is_and_no_token(context: Context):
    """Where it is printed, by Rich as well."""
    for shown in (repr(context), str(context), repr(context.__rich_repr__())):
        assert "giving" in shown
        assert TOKEN not in shown
