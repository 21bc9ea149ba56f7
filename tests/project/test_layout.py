"""The shape of the code: sizes, façade, and that light imports stay light."""

import ast
import inspect
from pathlib import Path

import pytest

import cliffracer
from tests.project.places import PACKAGE, functions, modules, python

MAX_MODULE = 320
MAX_FUNCTION = 45
HEAVY = ("asyncio", "nats", "psycopg", "psycopg_pool", "starlette", "uvicorn", "authlib", "joserfc", "loguru", "httpx", "asyncpg")


def _name(module: Path) -> str:
    return str(module.relative_to(PACKAGE.parent))


def test_no_module_is_longer_than_a_reader_keeps_in_mind() -> None:
    """A module has at most 320 lines: over that there is a second noun in it."""
    sizes = {_name(module): len(module.read_text().splitlines()) for module in modules()}
    assert {name: size for name, size in sizes.items() if size > MAX_MODULE} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    """A function has at most 45 lines without its docstring: over that a name is missing."""
    long = {}
    for module in modules():
        for function in functions(module):
            documentation = len((ast.get_docstring(function) or "").splitlines())
            size = (function.end_lineno or 0) - function.lineno + 1 - documentation
            if size > MAX_FUNCTION:
                long[f"{_name(module)}:{function.lineno} {function.name}"] = size
    assert long == {}


def test_facade_lists_its_names_in_order() -> None:
    """`cliffracer.__all__` is sorted, has no name twice, and every name in it can be imported."""
    names = list(cliffracer.__all__)
    assert names == sorted(set(names))
    assert [name for name in names if not hasattr(cliffracer, name)] == []


@pytest.mark.parametrize("name", getattr(cliffracer, "__all__", []))
def test_every_public_object_is_documented(name: str) -> None:
    """Whatever the façade offers of ours says what it is, and so does each public method that it defines."""
    thing = getattr(cliffracer, name)
    if not (inspect.isclass(thing) or inspect.isroutine(thing)) or not thing.__module__.startswith("cliffracer"):
        return
    assert (thing.__doc__ or "").strip(), f"cliffracer.{name} has no docstring"
    if inspect.isclass(thing):
        own = {method: value for method, value in vars(thing).items() if inspect.isfunction(value) and not method.startswith("_")}
        assert [f"{name}.{method}" for method, value in own.items() if not (inspect.getdoc(getattr(thing, method)) or "").strip()] == []


def test_importing_app_stays_light() -> None:
    """`from cliffracer import App` brings no event loop, broker, database, web server, token or log library in."""
    loaded = python(f"import sys; from cliffracer import App; print(*sorted(set({HEAVY!r}) & set(sys.modules)))")
    assert loaded.split() == []


def test_noqa_and_type_ignore_carry_a_reason() -> None:
    """A suppressed warning names its code and says why: `# noqa: CODE - reason`, `# type: ignore[code]  # reason`."""
    bare = []
    for module in modules():
        for number, line in enumerate(module.read_text().splitlines(), start=1):
            for mark in ("# noqa", "# type: ignore"):
                _, found, rest = line.partition(mark)
                if found and not _has_reason(rest):
                    bare.append(f"{_name(module)}:{number}{found}{rest}")
    assert bare == []


def _has_reason(rest: str) -> bool:
    code, _, reason = rest.replace("]", "] ").lstrip(":[ ").partition(" ")
    return code[:1].isalpha() and len(reason.strip(" -#:")) > 3
