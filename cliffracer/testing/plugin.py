"""The pytest plugin: async tests run as they are, and the embedded servers start once for all of them."""

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object | None:
    """Run an ``async def`` test that no other plugin runs."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj) or any(pyfuncitem.iter_markers("asyncio")) or any(pyfuncitem.iter_markers("anyio")):
        return None
    info = pyfuncitem._fixtureinfo  # noqa: SLF001 - as pytest's own plugin reads them; there is no public way
    for name in info.argnames:
        if any(_is_async(definition.func) for definition in info.name2fixturedefs.get(name, ())[-1:]):  # of a loop that is not ours
            pytest.fail(
                f"{pyfuncitem.name} has the async fixture {name}: mark it by whose fixture that is, "
                "@pytest.mark.asyncio or @pytest.mark.anyio, or set asyncio_mode = auto for pytest-asyncio.",
                pytrace=False,
            )
    arguments: dict[str, Any] = {name: pyfuncitem.funcargs[name] for name in info.argnames}
    asyncio.run(pyfuncitem.obj(**arguments))
    return True


def _is_async(function: Any) -> bool:
    inner = inspect.unwrap(function)
    return inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner)


@pytest.fixture(scope="session")
def cliffracer_servers() -> Iterator[Any]:
    """Embedded NATS and PostgreSQL that stay up until the last test; `running` finds them warm."""
    from cliffracer import embedded  # noqa: PLC0415 - a plugin must cost nothing where it is not used

    with embedded.servers(database=True) as urls:
        yield urls
